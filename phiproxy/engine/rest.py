"""The half of a split statement that the engine computes: its text around the source, its parameters, the session it is run in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from phiproxy.engine.rows_into_engine import Source

# What may change an answer and is the client session's, also how its text is read. Others are as the engine's role has them.
MIRRORED = frozenset(
    {
        "array_nulls",
        "backslash_quote",
        "bytea_output",
        "client_encoding",
        "datestyle",
        "default_text_search_config",
        "escape_string_warning",
        "extra_float_digits",
        "intervalstyle",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "pg_trgm.similarity_threshold",
        "pg_trgm.strict_word_similarity_threshold",
        "pg_trgm.word_similarity_threshold",
        "quote_all_identifiers",
        "search_path",
        "standard_conforming_strings",
        "timezone",
        "timezone_abbreviations",
        "transform_null_equals",
        "xmlbinary",
        "xmloption",
    }
)
_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Rest:
    """One SELECT. Between each two of ``parts`` stands the source, as an item of FROM that has no alias yet.

    ``parts`` of one are a SELECT without a source. The client's parameters in it are $1 … ${parameters}; ``oids`` are the types
    that it declares for the first of them (0: none). The text is in the session's client_encoding, as everything here.

    ``stands``: it is a statement around a SELECT, so that its source is a table. ``held``: its transaction stays open for others.
    ``explained``: the words of an EXPLAIN of it whose result comes before its own.
    """

    parts: tuple[bytes, ...]
    source: Source = ()
    parameters: int = 0
    oids: tuple[int, ...] = ()
    stands: bool = False
    held: bool = False
    explained: bytes = b""

    def text(self, source: bytes) -> bytes:
        """Return what the engine is sent."""
        return source.join(self.parts)

    def position(self, position: int, source: bytes) -> int | None:
        """Return where a position (characters from 1) in ``text`` is in the parts themselves; None inside of a source.

        Of a multi-byte client_encoding other than UTF8 this is exact where the parts are ASCII.
        """
        length = _characters(source)
        *before, _ = accumulate(_characters(part) for part in self.parts)
        for passed, end in enumerate(before):
            if position <= end + passed * length:
                return position - passed * length
            if position <= end + (passed + 1) * length:
                return None
        return position - len(before) * length


@dataclass(frozen=True, slots=True)
class Values:
    """The client's parameters of one execution, as Bind has them, and the formats of its results."""

    values: Sequence[bytes | None] = ()
    formats: Sequence[int] = ()
    result_formats: Sequence[int] = ()
    described: bool = False
    """The client was told at its Parse what the parser has to say, such as of a name that is too long."""


@dataclass(frozen=True, slots=True)
class Session:
    """The settings of the client's session that change answers, by their names in lower case; those of ``MIRRORED`` only."""

    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = self.settings.keys() - MIRRORED
        if unknown:
            raise ValueError(f"not mirrored: {', '.join(sorted(unknown))}")


def set_statements(before: Mapping[str, str], after: Mapping[str, str]) -> list[bytes]:
    """Return the statements, each ``SET …``, that make of one session another, in ASCII.

    ``search_path`` is as SHOW writes it, a list of names.
    """
    changes = [f"SET {name} TO DEFAULT" for name in before if name not in after]
    changes += [f"SET {name} TO {_value(name, value)}" for name, value in after.items() if before.get(name) != value]
    return [change.encode("ascii") for change in changes]


def _value(name: str, value: str) -> str:
    if name != "search_path":
        return _literal(value)
    names, at = [], 0
    while at < len(value):
        match = _NAME.match(value, at)
        if match is None:
            raise ValueError("a search_path is no list of names")
        names.append(match[1].replace('""', '"') if match[1] is not None else match[2].lower())
        at = match.end()
    return ", ".join(map(_literal, names)) or "''"


def _literal(value: str) -> str:
    """Return a string constant that is read alike in every client_encoding and whatever standard_conforming_strings is."""
    return "E'" + "".join(c if c.isascii() and c not in "'\\" else f"\\U{ord(c):08x}" for c in value) + "'"


def _characters(text: bytes) -> int:
    """Count the characters of a text, of UTF-8 those that are no continuation bytes."""
    return len(text) if text.isascii() else sum(byte & 0xC0 != 0x80 for byte in text)
