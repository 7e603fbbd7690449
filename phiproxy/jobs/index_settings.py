"""What an index has that its definition does not say, as the server prints it: what one that takes its place is given."""

from collections.abc import Iterable, Sequence
from typing import Final

TARGETS: Final = """
ARRAY(SELECT ARRAY[a.attnum::text, a.attstattarget::text, pg_catalog.pg_get_indexdef(i.indexrelid, a.attnum, false)]
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0 ORDER BY a.attnum)"""
"""Of an index ``i``: the number of each expression that has a statistics target, that target, and the expression."""
Targets = Sequence[Sequence[str]]


def set_targets(index: str, targets: Iterable[Sequence[str]]) -> list[str]:
    """Return what gives an index, by its name as SQL, statistics targets: ``ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 300``."""
    return [f"ALTER INDEX {index} ALTER COLUMN {number} SET STATISTICS {target}" for number, target, _ in targets]
