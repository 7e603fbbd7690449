"""Character sets of which Python's codec and the server's tables disagree here and there: the codec, and a table of what differs.

The tables lie in ``data`` and were made from a server by ``tools/encoding_tables.py``; a test compares all with the server at hand.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from phiproxy.errors import InvalidEncoding, UntranslatableCharacter

CODECS = {"SJIS": "cp932", "EUC_JP": "euc_jp", "EUC_KR": "cp949", "UHC": "cp949", "BIG5": "cp950"}
# One character each, as pg_verifymbstr tells them apart (wchar.c).
_HIGH = rb"[\xa1-\xfe]"
UNITS: Mapping[str, bytes] = {
    "SJIS": rb"[\x00-\x7f\xa1-\xdf]|[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]",
    "EUC_JP": rb"[\x00-\x7f]|\x8e[\xa1-\xdf]|\x8f" + _HIGH * 2 + b"|" + _HIGH * 2,
    "EUC_KR": rb"[\x00-\x7f]|" + _HIGH * 2,
    "UHC": rb"[\x00-\x7f]|[\x80-\xff][\x01-\xff]",
    "BIG5": rb"[\x00-\x7f]|[\x80-\xff][\x01-\xff]",
}


def malformed(name: str) -> InvalidEncoding:
    """Return the server's error for bytes that are no characters of an encoding."""
    return InvalidEncoding(f'invalid byte sequence for encoding "{name}"')


def unreadable(name: str) -> UntranslatableCharacter:
    """Return the server's error for a sequence that is no character of Unicode."""
    return UntranslatableCharacter(f'a byte sequence in encoding "{name}" has no equivalent in encoding "UTF8"')


def unwritable(name: str) -> UntranslatableCharacter:
    """Return the server's error for a character that an encoding does not have."""
    return UntranslatableCharacter(f'a character in encoding "UTF8" has no equivalent in encoding "{name}"')


@dataclass(frozen=True, slots=True)
class Table:
    """What differs from a codec: the character that a sequence is, the sequence that a character is; None is none."""

    name: str
    unit: re.Pattern[bytes]
    whole: re.Pattern[bytes]
    read: dict[bytes, str | None]
    write: dict[str, bytes | None]
    doubtful: frozenset[str]
    """Characters that the codec makes of sequences in ``read``."""

    @property
    def codec(self) -> str:
        """Python's name of the codec."""
        return CODECS[self.name]

    def to_text(self, encoded: bytes) -> str:
        """Return a text; InvalidEncoding where it is malformed, UntranslatableCharacter where a character of it is not known."""
        if not self.whole.fullmatch(encoded):
            raise malformed(self.name)
        try:
            text = encoded.decode(self.codec)
        except UnicodeDecodeError:
            text = None
        if text is not None and self.doubtful.isdisjoint(text):
            return text
        return "".join(map(self._character, self.unit.findall(encoded)))

    def _character(self, sequence: bytes) -> str:
        try:
            character = self.read[sequence] if sequence in self.read else sequence.decode(self.codec)
        except UnicodeDecodeError:
            character = None
        if character is None or len(character) != 1:
            raise unreadable(self.name)
        return character

    def as_far_as_known(self, encoded: bytes) -> str:
        """Return a text whatever is in it."""
        try:
            return self.to_text(encoded)
        except (InvalidEncoding, UntranslatableCharacter):
            return encoded.decode(self.codec, "replace")

    def from_text(self, text: str) -> bytes:
        """Return a text in the encoding; UntranslatableCharacter where it has no such character."""
        try:
            if self.write.keys().isdisjoint(text):
                return text.encode(self.codec)
            parts = [self.write[c] if c in self.write else c.encode(self.codec) for c in text]
        except UnicodeEncodeError:
            parts = [None]
        encoded = [part for part in parts if part is not None]
        if len(encoded) < len(parts):
            raise unwritable(self.name)
        return b"".join(encoded)

    def as_far_as_sayable(self, text: str) -> bytes:
        """Return a text in the encoding, with a question mark for what it does not have."""
        return b"".join(map(self._sayable, text))

    def _sayable(self, character: str) -> bytes:
        try:
            return self.from_text(character)
        except UntranslatableCharacter:
            return b"?"


def table(name: str, lines: Iterable[str]) -> Table:
    """Return the table of an encoding from the lines of a data file: ``read 8160 ff5e``, ``write e000-e757 -``."""
    read: dict[bytes, str | None] = {}
    write: dict[str, bytes | None] = {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        key, _, value = rest.partition(" ")
        if kind == "read":
            read[bytes.fromhex(key)] = None if value == "-" else chr(int(value, 16))
        elif kind == "write":
            first, _, last = key.partition("-")
            for code in range(int(first, 16), int(last or first, 16) + 1):
                write[chr(code)] = None if value == "-" else bytes.fromhex(value)
    unit = UNITS[name]
    doubtful = frozenset("".join(sequence.decode(CODECS[name], "ignore") for sequence in read))
    return Table(name, re.compile(unit), re.compile(b"(?:" + unit + b")*+"), read, write, doubtful)


@cache
def shipped(name: str) -> Table:
    """Return the table of the package."""
    return table(name, files("phiproxy.wire").joinpath(f"data/{name.lower()}.txt").read_text(encoding="ascii").splitlines())
