"""``citext = text``: PostgreSQL compares both as texts, so case counts, and an index on the column as a text answers it.

Where no index has that, or it is not plain to see that all values are texts, the comparison stays what it is: refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from phiproxy.policy.types import builtin
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import Derived
from phiproxy.sql.expressions import Grouping
from phiproxy.sql.scope import Protected
from phiproxy.sql.type_resolution import Part

if TYPE_CHECKING:
    from phiproxy.sql.leaves import Leaf, Term

_AS_TEXT = "@::text"


def as_texts(a: Analysis, terms: Sequence[Term]) -> Sequence[Term]:
    """Return what is compared, with a citext column as its text where everything else is text."""
    columns = [made for made in terms if next(made.columns(), None) is not None]
    if len(columns) != 1 or columns[0].single is None or not all(map(_is_text, _others(columns[0], terms))):
        return terms
    found = _as_text(a, columns[0].single)
    return (
        terms if found is None else [dataclasses.replace(m, leaves=[found], part=Part()) if m is columns[0] else m for m in terms]
    )


def _others(column: Term, terms: Sequence[Term]) -> Iterator[Leaf | None]:
    for made in terms:
        if made is not column:
            yield from made.leaves or (None,)
            yield from () if made.unprotected is None else (None,)


def _is_text(leaf: Leaf | None) -> bool:
    return leaf is not None and leaf.sink is not None and leaf.sink.value_type is not None and leaf.sink.value_type.is_text


def _as_text(a: Analysis, leaf: Leaf) -> Leaf | None:
    """Return a plain citext column as an expression of it that an index has, else None."""
    value = leaf.value
    if not isinstance(value, Protected) or value.type.underlying.family != "citext" or value.column.base is not None:
        return None
    plain = "ColumnRef" in leaf.node and leaf.derived is None and leaf.grouping == Grouping.NONE and not leaf.casts
    made = value.column.derived(_AS_TEXT, builtin("text"))
    if not plain or id(leaf.node) in a.respelled or made.slot_for("@") is None:
        return None
    shown = Protected(made, made.type, cast=True)
    return dataclasses.replace(leaf, value=shown, derived=Derived(leaf.node, leaf.node, value, shown, total=True, spelled=()))
