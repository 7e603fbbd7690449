"""What one database makes of characters: upper and lower case, digits.

Families are tables that belong to the normaliser version (spec/stored-format 6.3), never Python's own: its Unicode is of another
year than the server's. The tables were made from a server (``tools/character_tables.py``), and are compared with each database's
own answers (``index.collations``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from phiproxy.errors import ValueRefused
from phiproxy.index.text_functions import ascii_digits

FAMILIES = ("ascii", "simple", "icu")
"""Of the locale C; of libc and of PostgreSQL's own, character by character; of ICU, by whole words and to several characters."""

_SIGMA, _FINAL_SIGMA = "\u03a3", "\u03c2"


class UnknownCharacter(ValueRefused, sqlstate="0A000"):
    """A character of which the proxy does not know what the server makes of it (0A000)."""


@dataclass(frozen=True, slots=True)
class CharacterTable:
    """One family. ``cased`` and ``ignorable`` decide over the sigma at the end of a word, where the family knows one.

    ``digests`` are what a server of this family answers ``index.collations.summary_query`` with, by the extent of the question.
    """

    lower: Mapping[int, str]
    upper: Mapping[int, str]
    digits: frozenset[int]
    cased: frozenset[int] = frozenset()
    ignorable: frozenset[int] = frozenset()
    digests: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Characters:
    """The characters of one database: those of a ``family``; of the code points in ``differing`` the server says otherwise.

    The family ``""`` knows ASCII only, and refuses everything else.
    """

    family: str = ""
    differing: frozenset[int] = field(default=frozenset(), repr=False)

    def lower(self, value: bytes) -> bytes:
        """Return the value in lower case; UnknownCharacter, as of all here."""
        text = self._text_of_known_characters(value)
        if text is None:
            return value.lower()
        table = character_table(self.family)
        lowered = text.translate(table.lower)
        if table.cased and _SIGMA in text:
            lowered = "".join(
                _FINAL_SIGMA if character == _SIGMA and _ends_word(text, offset, table) else character.translate(table.lower)
                for offset, character in enumerate(text)
            )
        return lowered.encode()

    def upper(self, value: bytes) -> bytes:
        """Return the value in upper case."""
        text = self._text_of_known_characters(value)
        return value.upper() if text is None else text.translate(character_table(self.family).upper).encode()

    def digits(self, value: bytes) -> bytes:
        r"""Leave the digits only, which are what ``\\d`` stands for."""
        text = self._text_of_known_characters(value)
        if text is None:
            return ascii_digits(value)
        digits = character_table(self.family).digits
        return "".join(character for character in text if ord(character) in digits).encode()

    def _text_of_known_characters(self, value: bytes) -> str | None:
        """Decode a value; None where ASCII's own rules are those of the family too."""
        if value.isascii() and not self.differing:
            return None
        text = value.decode()
        if not value.isascii() and not self.family:
            raise UnknownCharacter(
                "upper and lower case beyond ASCII are not known of this database's collation",
                hint="phiproxy check says why.",
            )
        if not self.differing.isdisjoint(map(ord, text)):
            raise UnknownCharacter(
                "the value holds a character whose case this server maps in another way than phiproxy's tables",
                hint="phiproxy check lists these characters.",
            )
        return text


ASCII = Characters()


def _ends_word(text: str, offset: int, table: CharacterTable) -> bool:
    """Tell whether what is at ``offset`` stands behind a letter and before none (Unicode's Final_Sigma)."""
    return _first(text, range(offset - 1, -1, -1), table) in table.cased and (
        _first(text, range(offset + 1, len(text)), table) not in table.cased
    )


def _first(text: str, offsets: range, table: CharacterTable) -> int | None:
    return next((ord(text[offset]) for offset in offsets if ord(text[offset]) not in table.ignorable), None)


@lru_cache
def character_table(family: str) -> CharacterTable:
    """Return the table of a family, ``""`` being that of ASCII; ValueError for a name that is none."""
    name = family or "ascii"
    if name not in FAMILIES:
        raise ValueError(f"there is no family {family} of characters")
    return parse_table(files("phiproxy.index").joinpath(f"data/{name}-1.txt").read_text(encoding="ascii"))


def parse_table(text: str) -> CharacterTable:
    """Read the form of the data files: ``lower 0130 0069 0307`` maps, ``digits 0030-0039`` lists ranges, the rest is a comment."""
    maps: dict[str, dict[int, str]] = {"lower": {}, "upper": {}}
    sets: dict[str, set[int]] = {"digits": set(), "cased": set(), "ignorable": set()}
    digests = {}
    for line in text.splitlines():
        kind, *codes = line.split()
        if kind == "digest":
            digests[codes[0]] = tuple(codes[1:])
        elif kind in maps:
            point, *mapped = (int(code, 16) for code in codes)
            maps[kind][point] = "".join(map(chr, mapped))
        elif kind in sets:
            for code in codes:
                first, _, last = code.partition("-")
                sets[kind].update(range(int(first, 16), int(last or first, 16) + 1))
    return CharacterTable(maps["lower"], maps["upper"], digests=digests, **{k: frozenset(s) for k, s in sets.items()})
