"""Unique keys and indexes over protected columns: on tags, named by the client or as in indexcmds.c, ChooseRelationName."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from phiproxy.errors import ConfigError, NoIndexAnswers
from phiproxy.index.spelling import IDENTITY
from phiproxy.policy.identifiers import quote_ident, shown_expression
from phiproxy.policy.physical_columns import tag
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.text.parse import Node, strings
from phiproxy.sql.values.index_spelling import add_index, over_column

Columns = Mapping[str, ProtectedColumn]
_LABELS = {"CONSTR_UNIQUE": "key", "CONSTR_PRIMARY": "pkey"}


def slot_of(a: Analysis, column: ProtectedColumn, expression: str, body: Node) -> Slot:
    """Return the slot whose tags an index on an expression orders; NoIndexAnswers, with the index to add, without one.

    CREATE INDEX ON patients (notes)
    → refused 0A000
    """
    slot = next((s for s in column.slots if s.expression == expression and s.state != "dropped"), None)
    if slot is None:
        shown = shown_expression(expression, "value" if column.path else quote_ident(column.name))
        raise NoIndexAnswers(
            f"{column.label} has no blind index for {shown}",
            hint=add_index(f"`{shown}`", column.label),
            position=a.position(body) if "location" in body else None,
        )
    return slot


def expression_of(a: Analysis, column: ProtectedColumn, expression: Node, body: Node) -> str:
    """Return the spelling of an indexed expression; StatementRefused for one that no blind index can have.

    CREATE INDEX ON patients (reverse(ssn))
    → refused 0A000
    """
    try:
        spelling = over_column(expression, column.name, partial(own_name, a), column.type.indexed_as)
        why = f"Index {quote_ident(column.name)} itself, or an expression that the policy can list."
    except ConfigError as error:
        spelling, why = None, error.message
    if spelling is None:
        why = f"an index over {column.label} cannot answer this expression, which is not one that can be a blind index"
        raise a.refuse(why, body, hint=why)
    return spelling


def unique_index(
    a: Analysis, columns: Columns, qualified: tuple[str, str], constraint: Node, names: Sequence[str], taken: Collection[str]
) -> tuple[str, str]:
    """Return the name and the statement of the index that replaces a UNIQUE or PRIMARY KEY of a table.

    ALTER TABLE patients ADD UNIQUE (ssn)
    → CREATE UNIQUE INDEX patients_ssn_key ON public.patients ((tag(ssn)))
    """
    kind = constraint["contype"]
    if constraint.get("deferrable") or constraint.get("indexname") or constraint.get("options"):
        raise a.refuse(
            "a deferrable or parametrised constraint over a protected column is not supported",
            constraint,
            hint="Leave out DEFERRABLE, WITH (…) and USING INDEX TABLESPACE: it becomes a unique index on tags.",
        )
    schema, table = qualified
    parts = [] if kind == "CONSTR_PRIMARY" else names
    name = constraint.get("conname") or chosen(table, parts, _LABELS[kind], taken)
    nulls = " NULLS NOT DISTINCT" if constraint.get("nulls_not_distinct") else ""
    included = strings(constraint.get("including"))
    if any(n in columns for n in included):
        raise a.refuse("INCLUDE of a protected column would store its value in the index", constraint, hint="Leave it out.")
    include = f" INCLUDE ({', '.join(map(quote_ident, included))})" if included else ""
    text = f"CREATE UNIQUE INDEX {quote_ident(name)} ON {quote_ident(schema)}.{quote_ident(table)}"
    keys = [f"({tag(columns[n], slot_of(a, columns[n], IDENTITY, constraint))})" if n in columns else quote_ident(n) for n in names]
    return name, f"{text} ({', '.join(keys)}){include}{nulls}"


_LIMIT = 63


def chosen(table: str, columns: Sequence[str], label: str, taken: Collection[str]) -> str:
    """Return ``table_columns_label``, shortened as PostgreSQL does, with the first number that makes it free.

    ALTER TABLE patients ADD UNIQUE (ssn, city)
    → CREATE UNIQUE INDEX patients_ssn_city_key ON public.patients ((tag(ssn)), city)
    """
    addition = ""
    for column in columns:
        addition += ("_" if addition else "") + column
        if len(addition.encode()) >= _LIMIT:
            break
    number = 0
    while True:
        name = _object_name(table, _clip(addition, _LIMIT), f"{label}{number or ''}")
        if name not in taken:
            return name
        number += 1


def numbered(names: Sequence[str]) -> list[str]:
    """Return the names of an index's keys, with repeated ones numbered (ChooseIndexColumnNames)."""
    result: list[str] = []
    for name in names:
        free, number = name, 0
        while free in result:
            number += 1
            free = f"{_clip(name, _LIMIT - len(str(number)))}{number}"
        result.append(free)
    return result


def _object_name(first: str, second: str, label: str) -> str:
    """Return ``first_second_label``, shortened as makeObjectName does: the longer part loses characters first."""
    room = _LIMIT - len(label.encode()) - 1 - (1 if second else 0)
    one, other = len(first.encode()), len(second.encode())
    while one + other > room:
        if one > other:
            one -= 1
        else:
            other -= 1
    parts = [_clip(first, one), _clip(second, other)] if second else [_clip(first, one)]
    return "_".join([*parts, label])


def _clip(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
