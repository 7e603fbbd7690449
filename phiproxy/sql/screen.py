"""Which texts need a look at all: the protected names as one search over the raw bytes, without a parse.

The search over-approximates on purpose (it also finds names inside literals and longer words); what it finds is then parsed.
What it does not find cannot name anything protected: every way to write an identifier (folded, quoted, doubled quotes, ``U&``)
either contains the name case-insensitively or contains ``U&"`` (sql.md section 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import Protection

# What changes the meaning of later names, or refers to what was named before. Each of these is parsed and looked at, cheaply.
_WATCHED = re.compile(
    rb"\b(?:set|reset|discard|prepare|execute|deallocate|declare|fetch|move|close|create|alter|drop|do|call|import|begin|start|commit|end|abort"
    rb"|rollback|savepoint|release|set_config|pg_settings|into)\b",
    re.IGNORECASE,
)
_PLAIN_START = re.compile(rb"\s*(?:select|insert|update|delete|with|values)\b", re.IGNORECASE)
_PLAIN_WATCHED = re.compile(rb"\b(?:set_config|pg_settings|into\s+temp|into\s+temporary)\b", re.IGNORECASE)


def _spellings(names: Iterable[str]) -> tuple[bytes, ...]:
    """Return what a text is searched for: each in ASCII's lower case, which is all that the server folds in UTF-8."""
    raw = [name.encode("utf-8") for name in names]
    return tuple(sorted({b'u&"', *(spelling.lower() for r in raw for spelling in (r, r.replace(b'"', b'""')))}))


class Screen:
    """The search for one protection and one catalogue."""

    def __init__(self, protection: Protection, catalog: Catalog) -> None:
        names = {*protection.table_names, *protection.column_names, *catalog.reaching, protection.registry_schema}
        self._spellings = _spellings(names)

    def mentions(self, text: bytes) -> bool:
        """Tell whether the text may contain a protected name."""
        # One search for each: ten times as fast as a pattern of all of them, and long texts hold the loop up for everybody.
        lowered = text.lower()
        return any(spelling in lowered for spelling in self._spellings)

    def place(self, text: bytes) -> int:
        """Return the byte offset of the first protected name that a text may contain, 0 where there is none."""
        lowered = text.lower()
        return min((found for found in map(lowered.find, self._spellings) if found >= 0), default=0)

    @staticmethod
    def watched(text: bytes) -> bool:
        """Tell whether the text may change what later names mean, or prepare, execute or declare something."""
        if b";" not in text and _PLAIN_START.match(text):
            return _PLAIN_WATCHED.search(text) is not None
        return _WATCHED.search(text) is not None
