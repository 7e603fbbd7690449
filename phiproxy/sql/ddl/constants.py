"""Constants of CHECK constraints that are written as texts: in the canonical form of the type that they are compared as.

Only spellings that are the same value whatever the session's settings are: the server reads a constant when the constraint is made,
and the proxy reads it for good.
"""

from __future__ import annotations

import re

from phiproxy.policy.types import builtin
from phiproxy.types.registry import codec
from phiproxy.types.styles import Styles

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_SPELLINGS = {
    "bool": re.compile("(?i:t|true|f|false)"),
    "bytea": re.compile(r"\\x(?:[0-9a-fA-F]{2})*"),
    "date": re.compile(_DATE),
    "time": re.compile(_TIME),
    "timestamp": re.compile(f"{_DATE}(?:[ T]{_TIME})?"),
    "timestamptz": re.compile(f"{_DATE}[ T]{_TIME}[+-][0-9]{{2}}(?::[0-9]{{2}})?"),
    "uuid": re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
}
READ = frozenset(_SPELLINGS)
"""The kinds of terms that a constant without a type may be compared with, each named like its type."""


def canonical(kind: str, text: str) -> str:
    """Return the canonical form of a text that is of a kind; ValueError where it is spelled in another way, or out of range."""
    if not _SPELLINGS[kind].fullmatch(text):
        raise ValueError("not spelled as a constant of this type is here")
    return codec(builtin(kind)).from_text(text.encode(), Styles.CANONICAL).decode()
