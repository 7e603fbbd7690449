"""Character sets for which the server's own tables are kept whole: Python has no codec for them, or one that differs everywhere.

What is written may be more than what is read, as it is in the server. Some characters of those of 2004 are two code points. The
tables lie in ``data`` and were made from a server by ``tools/encoding_tables.py``; a test compares all with the server at hand.
"""

import gzip
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from phiproxy.wire.encoding_differences import malformed, unreadable, unwritable

_HIGH = rb"[\xa1-\xfe]"
# One character each, as pg_verifymbstr tells them apart (wchar.c).
UNITS: Mapping[str, bytes] = {
    "EUC_TW": rb"[\x00-\x7f]|\x8e[\xa1-\xa7]" + _HIGH * 2 + rb"|[\x80-\x8d\x90-\xff]" + _HIGH,
    "EUC_JIS_2004": rb"[\x00-\x7f]|\x8e[\xa1-\xdf]|\x8f" + _HIGH * 2 + b"|" + _HIGH * 2,
    "SHIFT_JIS_2004": rb"[\x00-\x7f\xa1-\xdf]|[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]",
    "JOHAB": rb"[\x00-\x7f]|\x8f" + _HIGH * 2 + rb"|[\x80-\x8e\x90-\xff]" + _HIGH,
}
_UNKNOWN = "\ufffd"


@dataclass(frozen=True, slots=True)
class Map:
    """Every character beyond ASCII: ``read`` by its sequence, ``write`` by its code points, which ``pieces`` tells apart."""

    name: str
    unit: re.Pattern[bytes]
    whole: re.Pattern[bytes]
    pieces: re.Pattern[str]
    read: Mapping[bytes, str]
    write: Mapping[str, bytes]

    def to_text(self, encoded: bytes) -> str:
        """Return a text; InvalidEncoding where it is malformed, UntranslatableCharacter where a character of it is not known."""
        if not self.whole.fullmatch(encoded):
            raise malformed(self.name)
        try:
            return "".join(s.decode() if s.isascii() else self.read[s] for s in self.unit.findall(encoded))
        except KeyError:
            raise unreadable(self.name) from None

    def as_far_as_known(self, encoded: bytes) -> str:
        """Return a text whatever is in it."""
        sequences = re.findall(self.unit.pattern + b"|.", encoded, re.DOTALL)
        return "".join(s.decode() if s.isascii() else self.read.get(s, _UNKNOWN) for s in sequences)

    def from_text(self, text: str) -> bytes:
        """Return a text in the encoding; UntranslatableCharacter where it has no such character."""
        try:
            return b"".join(p.encode() if p.isascii() else self.write[p] for p in self.pieces.findall(text))
        except KeyError:
            raise unwritable(self.name) from None

    def as_far_as_sayable(self, text: str) -> bytes:
        """Return a text in the encoding, with a question mark for what it does not have."""
        return b"".join(p.encode() if p.isascii() else self.write.get(p, b"?") for p in self.pieces.findall(text))


def mapping(name: str, lines: Iterable[str]) -> Map:
    """Return the map of an encoding from the lines of a data file: ``a4f7 304b+309a``, ``< e3 5c`` of what is only written so."""
    read: dict[bytes, str] = {}
    write: dict[str, bytes] = {}
    for line in lines:
        first, _, rest = line.partition(" ")
        if first == "<":
            text, _, sequence = rest.partition(" ")
            write[_text(text)] = bytes.fromhex(sequence)
        elif first != "#":
            character = read[bytes.fromhex(first)] = _text(rest)
            write.setdefault(character, bytes.fromhex(first))
    pairs = "|".join(re.escape(character) for character in write if len(character) > 1)
    unit = UNITS[name]
    pieces = re.compile(rf"[\x00-\x7f]+|{pairs + '|' if pairs else ''}.", re.DOTALL)
    return Map(name, re.compile(unit), re.compile(b"(?:" + unit + b")*+"), pieces, read, write)


def _text(codes: str) -> str:
    return "".join(chr(int(code, 16)) for code in codes.split("+"))


@cache
def shipped(name: str) -> Map:
    """Return the map of the package."""
    packed = files("phiproxy.wire").joinpath(f"data/{name.lower()}.txt.gz").read_bytes()
    return mapping(name, gzip.decompress(packed).decode("ascii").splitlines())
