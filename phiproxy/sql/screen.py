"""Which texts need a look at all: the protected names as one search over the raw bytes, without a parse.

The search over-approximates on purpose (it also finds names inside literals and longer words); what it finds is then parsed.
What it does not find cannot name anything protected: every way to write an identifier (folded, quoted, doubled quotes, ``U&``)
either contains the name case-insensitively or contains ``U&"`` (sql.md section 1).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import Protection

# What changes the meaning of later names, or refers to what was named before. Each of these is parsed and looked at, cheaply.
_WATCHED = re.compile(
    r"\b(?:set|reset|discard|prepare|execute|deallocate|declare|fetch|move|close|create|alter|drop|do|call|import|begin|start|commit|end|abort"
    r"|rollback|savepoint|release|set_config|pg_settings|into)\b",
    re.ASCII,
)
# What is searched at once, and how far into the next piece: further than any of these words is long.
_PIECE, _LONGEST = 256 * 1024, 16
# What data is read and written with changes nothing but through one of these.
_PLAIN = ("select", "insert", "update", "delete", "with", "values")
_PLAIN_START = re.compile(rf"\s*(?:{'|'.join(_PLAIN)})\b", re.ASCII)
_INTO_TEMP = re.compile(r"\binto\s+temp(?:orary)?\b", re.ASCII)
# An INSERT without columns names nothing protected even where its values are meant for a protected table: of one that is not there,
# whose name was mistyped, the server would log the statement.
_IDENTIFIER = rb'"[^"]+"|[\w$\x80-\xff]+'
_INSERT = re.compile(
    rb"\binsert\b(?:\s+into\s+(?:(?:%b)\s*\.\s*)?(%b)(?![\w$\"\x80-\xff]|\s*\.))?" % (_IDENTIFIER, _IDENTIFIER),
    re.IGNORECASE,
)
# These words begin statements of no other kind; without quotes and comments there is one of them.
_CONTROL = re.compile(rb"\s*(?:begin|start|commit|end|rollback|abort|savepoint|release)\b[\w\s,]*;?\s*", re.IGNORECASE)
_BLANKS = " \t\n\r\f\v"


def _lowered(text: bytes) -> str:
    """Return a text with a character for each byte, in ASCII's lower case, which is all that the server folds in UTF-8.

    A search for a short word takes a fifth of the time in it that it takes in bytes.
    """
    return text.lower().decode("latin-1")


def _spellings(names: Iterable[str]) -> tuple[str, ...]:
    """Return what a text is searched for."""
    raw = [name.encode("utf-8") for name in names]
    return tuple(sorted({'u&"', *(_lowered(spelling) for r in raw for spelling in (r, r.replace(b'"', b'""')))}))


class Screen:
    """The search for one protection and one catalogue."""

    def __init__(self, protection: Protection, catalog: Catalog) -> None:
        names = {*protection.table_names, *protection.column_names, *protection.type_names}
        names |= {*catalog.reaching, protection.registry_schema}
        self._spellings = _spellings(names)
        self._setters = _spellings(catalog.setters) if catalog.setters else ()
        self._catalog = catalog

    def passes(self, text: bytes) -> bool:
        """Tell whether a text is neither to be taken for one that names something protected nor watched."""
        lowered = _lowered(text)
        return not (self._names_one(lowered) or self._is_watched(lowered) or self.inserts_elsewhere(text))

    def mentions(self, text: bytes) -> bool:
        """Tell whether the text may contain a protected name."""
        return self._names_one(_lowered(text))

    def _names_one(self, lowered: str) -> bool:
        # One search for each: ten times as fast as a pattern of all of them, and long texts hold the loop up for everybody.
        for spelling in self._spellings:  # noqa: SIM110 - any() takes twice the time
            if spelling in lowered:
                return True
        return False

    def place(self, text: bytes) -> int:
        """Return the byte offset of the first protected name that a text may contain, 0 where there is none."""
        lowered = _lowered(text)
        return min((found for found in map(lowered.find, self._spellings) if found >= 0), default=0)

    @staticmethod
    def controls(text: bytes) -> bool:
        """Tell whether the text is one statement that begins or ends a transaction or savepoint, or a syntax error."""
        return _CONTROL.fullmatch(text) is not None

    def watched(self, text: bytes) -> bool:
        """Tell whether the text may change what later names mean, or prepare, execute or declare something."""
        return self._is_watched(_lowered(text)) or self.inserts_elsewhere(text)

    def learn(self, catalog: Catalog) -> None:
        """Go on with a catalogue that knows more relations."""
        self._catalog = catalog

    def inserts_elsewhere(self, text: bytes, created: Collection[str] = ()) -> bool:
        """Tell whether the text may insert into what is not in the catalogue, nor among the names that the session has made."""
        lowered = text.lower()
        at = lowered.find(b"insert")  # a pattern takes six times as long to find that it is not there
        while at >= 0:
            found = _INSERT.match(text, at)
            target = _target(found[1]) if found is not None else ""
            if found is not None and target not in self._catalog.relation_names and target not in created:
                return True
            at = lowered.find(b"insert", found.end() if found is not None else at + 1)
        return False

    def _is_watched(self, lowered: str) -> bool:
        return _is_watched(lowered) or any(spelling in lowered for spelling in self._setters)


def _target(spelled: bytes | None) -> str:
    """Return the name that an identifier means; an empty one where there is none."""
    if spelled is None:
        return ""
    return (spelled[1:-1] if spelled[:1] == b'"' else spelled.lower()).decode("utf-8", "replace")


def _makes_temporary(lowered: str) -> bool:
    at = lowered.find("into")  # a tenth of the time that the pattern takes to find one
    while at >= 0:
        if _INTO_TEMP.match(lowered, at) is not None:
            return True
        at = lowered.find("into", at + 1)
    return False


def _is_watched(lowered: str) -> bool:
    # The semicolon behind the last statement, which psql and pgbench send, separates nothing.
    plain = lowered.startswith(_PLAIN) or lowered[:1] in _BLANKS
    if plain and _PLAIN_START.match(lowered) and ";" not in lowered.rstrip(";" + _BLANKS):
        named = "set_config" in lowered or "pg_settings" in lowered
        # A function may be given the text of what ``sql.databases`` refuses.
        named = named or ("database" in lowered and ("rename" in lowered or "create" in lowered))
        return named or ("into" in lowered and _makes_temporary(lowered))
    # In pieces, for one search through megabytes would let no other session have its turn. A word that is cut off at the end of a
    # piece is whole in the next one; what looks like a word there and is none is looked at once more than need be.
    return any(_WATCHED.search(lowered, at, at + _PIECE + _LONGEST) is not None for at in range(0, len(lowered) or 1, _PIECE))
