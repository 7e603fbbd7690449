"""Character sets of which Python's codec and the server's tables disagree here and there: the codec, and a table of what differs.

The tables lie in ``data`` and were made from a server by ``tools/encoding_tables.py``; a test compares all with the server at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
LONGEST = 3


@dataclass(frozen=True, slots=True)
class Table:
    """What differs from a codec: the character that a sequence is, the sequence that a character is; None is none."""

    codec: str
    unit: re.Pattern[bytes]
    whole: re.Pattern[bytes]
    read: dict[bytes, str | None] = field(default_factory=dict)
    write: dict[str, bytes | None] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()
    """Characters that the codec makes of sequences in ``read``."""


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
    return Table(CODECS[name], re.compile(unit), re.compile(b"(?:" + unit + b")*+"), read, write, doubtful)


@cache
def shipped(name: str) -> Table:
    """Return the table of the package."""
    return table(name, files("phiproxy.wire").joinpath(f"data/{name.lower()}.txt").read_text(encoding="ascii").splitlines())


def to_text(name: str, found: Table, encoded: bytes) -> str:
    """Return a text; InvalidEncoding where it is malformed, UntranslatableCharacter where a character of it is not known."""
    if not found.whole.fullmatch(encoded):
        raise InvalidEncoding(f'invalid byte sequence for encoding "{name}"')
    try:
        text = encoded.decode(found.codec)
    except UnicodeDecodeError:
        text = None
    if text is not None and found.doubtful.isdisjoint(text):
        return text
    return "".join(_character(name, found, sequence) for sequence in found.unit.findall(encoded))


def _character(name: str, found: Table, sequence: bytes) -> str:
    try:
        character = found.read[sequence] if sequence in found.read else sequence.decode(found.codec)
    except UnicodeDecodeError:
        character = None
    if character is None or len(character) != 1:
        raise UntranslatableCharacter(f'a byte sequence in encoding "{name}" has no equivalent in encoding "UTF8"')
    return character


def from_text(name: str, found: Table, text: str) -> bytes:
    """Return a text in the encoding; UntranslatableCharacter where it has no such character."""
    try:
        if found.write.keys().isdisjoint(text):
            return text.encode(found.codec)
        parts = [found.write[c] if c in found.write else c.encode(found.codec) for c in text]
    except UnicodeEncodeError:
        parts = [None]
    made = [part for part in parts if part is not None]
    if len(made) < len(parts):
        raise UntranslatableCharacter(f'a character in encoding "UTF8" has no equivalent in encoding "{name}"')
    return b"".join(made)
