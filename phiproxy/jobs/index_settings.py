"""What an index has that its definition does not say, as the server prints it: what one that takes its place is given."""

from collections.abc import Iterable, Sequence
from typing import Final

from phiproxy.policy.identifiers import literal

TARGETS: Final = """
ARRAY(SELECT ARRAY[a.attnum::text, a.attstattarget::text, pg_catalog.pg_get_indexdef(i.indexrelid, a.attnum, false)]
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0 ORDER BY a.attnum)"""
"""Of an index ``i``: the number of each expression that has a statistics target, that target, and the expression."""
Targets = Sequence[Sequence[str]]

TABLESPACE: Final = """
coalesce((SELECT s.spcname::text FROM pg_catalog.pg_class x JOIN pg_catalog.pg_tablespace s ON s.oid = x.reltablespace
           WHERE x.oid = i.indexrelid), '')"""
"""Where an index ``i`` is; empty for the database's default."""


def in_tablespace(name: str | None, *, local: bool) -> list[str]:
    """Return what lets indexes that are made then be in a tablespace, empty for the database's default; nothing for None."""
    return [] if name is None else [f"SET {'LOCAL ' if local else ''}default_tablespace TO {literal(name)}"]


def set_targets(index: str, targets: Iterable[Sequence[str]]) -> list[str]:
    """Return what gives an index, by its name as SQL, statistics targets: ``ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 300``."""
    return [f"ALTER INDEX {index} ALTER COLUMN {number} SET STATISTICS {target}" for number, target, _ in targets]
