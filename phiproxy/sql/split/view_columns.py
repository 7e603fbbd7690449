"""The columns of the server's view where a view computes over protected columns: what stands there, and in which order."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from phiproxy.errors import InvalidTableDefinition
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.view_rests import SEALED, Input, input_name, is_inner, type_key
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.names_and_signatures import Output
from phiproxy.sql.queries.computed_views import clear_type
from phiproxy.sql.result import Reveal
from phiproxy.sql.split.division import Division
from phiproxy.sql.text.parse import only
from phiproxy.sql.values.operands import cast_type
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from phiproxy.wire.oids import BYTEA_OID, TEXT_OID, UNKNOWN_OID

FAILS: Final = "phiproxy.computes"
"""The setting that a column which the server cannot compute asks for: that it does not exist is what a direct reader is told."""


class Shown(NamedTuple):
    """A column of the client's: its name, and as SQL what the server's view has there."""

    name: str
    sql: str


def columns_and_inputs(
    a: Analysis,
    division: Division,
    reveals: tuple[Reveal | None, ...],
    outputs: list[Output],
    names: list[str],
    shown: list[int | None],
    sealed: Collection[int],
) -> tuple[list[Input], list[Shown]]:
    """Return what the rest is over, without places, and the columns of the client's; ``sealed`` are places of the server's type."""
    inputs = []
    for column, reveal in zip(division.columns(), reveals, strict=True):
        if reveal is not None:
            inputs.append(Input("", reveal.column.identity, type_key(reveal.type), reveal.type.typmod))
        else:
            inputs.append(Input("", "", type_key(clear_type(a.context.catalog, column.type.oid, column.typmod)), column.typmod))
    columns = []
    for place, (output, name, number) in enumerate(zip(outputs, names, shown, strict=True)):
        if number is not None:
            columns.append(Shown(name, f"s.c{number + 1}"))
        else:
            columns.append(Shown(name, _failing("bytea" if place in sealed else _spelled(computed_type(a, output, name)))))
    return inputs, columns


def computed_type(a: Analysis, output: Output, name: str) -> DeclaredType:
    """Return the type of a computed column."""
    oid = TEXT_OID if output.type == UNKNOWN_OID else output.type
    typmod = output.column.typmod if output.column is not None else -1
    kind, node = only(output.node) if output.node else ("", {})
    if kind == "TypeCast" and node["typeName"].get("typmods"):
        cast = cast_type(node)
        typmod = cast.typmod if cast is not None and cast.oid == oid else None
    declared = clear_type(a.context.catalog, oid, typmod if typmod is not None else -1) if oid is not None else None
    if declared is None or not declared.name or typmod is None:
        why = f'it is not known here of which type column "{name}" of the view is'
        raise a.refuse(why, a.statement.body, hint=f"Say it with a cast: CAST(… AS text) AS {quote_ident(name)}.")
    return declared


def _spelled(declared: DeclaredType) -> str:
    if declared.schema:
        return f"{quote_ident(declared.schema)}.{quote_ident(declared.name)}"
    plain = sql_name(declared) if declared.typmod == -1 else declared.name
    return plain if re.fullmatch(r"[a-z][a-z0-9 ,()\[\]]*", plain) else quote_ident(plain)


def _failing(type_name: str) -> str:
    return f"CASE WHEN pg_catalog.current_setting('{FAILS}') = '' THEN NULL::{type_name} END"


def in_server_order(
    a: Analysis, columns: list[Shown], inputs: dict[int, Input], replaced: Relation | None
) -> tuple[list[tuple[str, str]], dict[int, str]]:
    """Return the columns of the server's view with what they are, and the name of each input.

    One that is replaced has its columns where they are, as PostgreSQL wants it: those of the client's are first of all the same,
    and an inner one that is no longer needed, or for something else, is NULL.
    """
    listed: list[tuple[str, str]] = []
    waiting, own = dict(inputs), list(columns)
    placed: dict[int, str] = {}
    catalog = a.context.catalog
    for column in replaced.columns if replaced is not None and replaced.column(SEALED) is not None else ():
        if column.name == SEALED:
            listed.append((SEALED, ""))
        elif is_inner(column.name):
            number = next((n for n, one in waiting.items() if stored_as(catalog, one) == (column.type_oid, column.typmod)), None)
            if number is None:
                listed.append((column.name, f"NULL::{_spelled(clear_type(catalog, column.type_oid, column.typmod))}"))
            else:
                del waiting[number]
                placed[number] = column.name
                listed.append((column.name, f"s.c{number + 1}"))
        elif own:
            listed.append((own[0].name, own[0].sql))
            del own[0]
        else:
            raise InvalidTableDefinition("cannot drop columns from view", hint="Drop the view, and create it again.")
    listed += [(one.name, one.sql) for one in own]
    if all(name != SEALED for name, _ in listed):
        listed.append((SEALED, ""))
    free = _free_names(list(replaced.columns) if replaced is not None else [])
    for number in waiting:
        placed[number] = next(free)
        listed.append((placed[number], f"s.c{number + 1}"))
    return listed, placed


def _free_names(taken: list[CatalogColumn]) -> Iterator[str]:
    names = {column.name for column in taken}
    number = 0
    while True:
        number += 1
        if input_name(number) not in names:
            yield input_name(number)


def stored_as(catalog: Catalog, one: Input) -> tuple[int, int]:
    """Return the type that an input has in the server's view: (OID, typmod)."""
    if one.identity:
        return BYTEA_OID, -1
    names = (t for part in (catalog.signatures.parts if catalog.signatures else ()) for t in part.types.values())
    oid = next((row.oid for row in names if type_key(clear_type(catalog, row.oid, one.typmod)) == one.type), 0)
    return oid, one.typmod
