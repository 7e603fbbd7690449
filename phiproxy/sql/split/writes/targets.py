"""The columns that a write stores in: which are protected, and as which type the engine gives a value for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.policy.signatures import Type
from phiproxy.sql.context import Analysis
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.tables_and_columns import type_of
from phiproxy.sql.split.writes.clear_leaves import ClearLeaves, clear_leaves, rows_of
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node
from phiproxy.sql.writes.assignment import columns_of
from phiproxy.wire.oids import TEXT_OID

_TEMPORARY = "pg_temp"
_SAME_TEXT = frozenset(
    {"text", "varchar", "bpchar", "bool", "int2", "int4", "int8", "numeric", "uuid", "date", "timestamp", "time"}
)  # fmt: skip
"""Types whose values are read from the text that they are written as in the same session, of dates with the same DateStyle."""
BY_COMMAND = (
    "Rows are locked before, which row-level security must allow for all rows that are seen: let its policies be FOR ALL"
    " commands, or choose the rows by what the server can decide."
)
"""The hint where policies of single commands stand in the way."""


@dataclass(frozen=True, slots=True)
class Target:
    """The table that is written to."""

    relation: Relation
    label: str
    """The name by which its columns are qualified."""
    catalog: Catalog
    protected: Mapping[str, ProtectedColumn]
    leaves: Mapping[str, ClearLeaves] = field(default_factory=dict)
    """Of documents whose leaves are sealed one by one: the check of what is computed for them."""

    def names(self, count: int) -> list[str]:
        """Return the first columns, which an INSERT without a list of columns means."""
        return [c.name for c in visible_columns(self.relation)[:count]]

    def type(self, catalog: Catalog, name: str) -> DeclaredType:
        """Return the type of a column without its length, of a domain what it is over; Impossible where it is not known."""
        if name in self.protected:
            return self.protected[name].type.underlying.unlimited
        column = self.relation.column(name)
        if column is None or catalog.signatures is None:
            raise Impossible("a column that is not known")
        declared = type_of(catalog, catalog.signatures.base(column.type_oid) or 0, -1)
        if not declared.name:
            raise Impossible("a column of a type that cannot be carried")
        return declared


def cast_to(target: Target, name: str) -> str:
    """Return how the type of a column is written in a cast that fails where a value cannot be assigned; empty where none does."""
    try:
        declared = target.type(target.catalog, name)
    except Impossible:
        return ""
    row = target.catalog.signatures.row(declared.oid) if target.catalog.signatures is not None else None
    if row is None or row.category == "S" or declared.element is not None:
        return ""  # anything may be assigned to a text
    return declared.name if declared.schema else declared.unlimited.name


def is_text(target: Target, name: str) -> bool:
    """Tell whether a column is a text, and of no type that only is like it."""
    try:
        return target.type(target.catalog, name).oid == TEXT_OID
    except Impossible:
        return False


def target_of(a: Analysis, body: Node) -> Target:
    """Return the table that a RangeVar means as a target; Impossible for one whose rows cannot be named."""
    relation = meant_relation(a, body)
    if not relation.oid or relation.schema.startswith(_TEMPORARY):
        raise Impossible("a table that was made a moment ago")
    label, protected = body.get("alias", {}).get("aliasname") or body["relname"], columns_of(a, relation)
    rows = rows_of(a, a.statement.body, label, relation)
    return Target(relation, label, a.context.catalog, protected, clear_leaves(a, relation, protected, rows))


def carried_as(declared: DeclaredType) -> str:
    """Return how the type of a value is written, without a length; Impossible for an array, of which there are no arrays."""
    if declared.element is not None:
        raise Impossible("values that are arrays")
    if declared.schema or by_oid(declared.oid) is not None:
        return declared.name if declared.schema else declared.family
    return quote_ident(declared.name, always=True)  # bit as a word is bit(1), and char a text


def cast_as(declared: DeclaredType) -> str:
    """Return how the type of a value is written in a cast, without a length; of an array that of its elements, ``varchar[]``."""
    return carried_as(declared) if declared.element is None else f"{carried_as(declared.element)}[]"


def given_in_arrays_as(declared: DeclaredType) -> str:
    """Return how the type of the elements is written in which values are given; that of an array is a text.

    Impossible for an array whose text is not the same under all settings of a session.
    """
    if declared.element is None:
        return carried_as(declared)
    if declared.element.schema or declared.element.family not in _SAME_TEXT:
        raise Impossible("arrays whose text depends on settings")
    return "text"


def check_assigned(catalog: Catalog, target: DeclaredType, value: Type) -> None:
    """Go on where a value of a type may be assigned to a column; Impossible where that is not known, since a cast may do more.

    Whatever it is, it may be assigned to a text (manual 10.4).
    """
    signatures = catalog.signatures
    column = signatures.row(target.oid) if signatures is not None else None
    if signatures is None or column is None:
        raise Impossible("the type of a column is not known")
    if column.category != "S" and (signatures.row(value) is None or not signatures.takes(target.oid, value, "a")):
        raise Impossible("it is not known whether the value may be assigned")
