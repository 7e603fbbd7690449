"""What is made of a protected column by functions of the closed table."""

from __future__ import annotations

from phiproxy.sql.analysis import Analysis

# Functions of the extension fuzzystrmatch, which is installed into a schema of somebody's choice.
_EXTENSION = frozenset({"soundex", "metaphone", "dmetaphone", "dmetaphone_alt"})


def own_name(a: Analysis, names: list[str]) -> str:
    """Return the name of what is PostgreSQL's own function or operator whatever the search path is, else an empty one."""
    name = names[-1]
    if len(names) == 2 and (names[0] == "pg_catalog" or name in _EXTENSION):
        return "" if name in _EXTENSION and name in a.context.catalog.replaced else name
    return name if len(names) == 1 and name not in a.context.catalog.replaced else ""
