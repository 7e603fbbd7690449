"""Views over expressions of protected columns where they are read: only a source of the proxy's own may read what they are made of.

A client's statement over such a view is refused here, and then split (``sql.split``): so what the view computes is computed over
opened rows, and nobody is shown the columns that it is computed of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phiproxy.errors import ColumnMasked
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.column_types import of_typmod
from phiproxy.policy.protection import DeclaredType, column_masked
from phiproxy.policy.view_rests import Input, ViewRest, client_columns, digest_of, is_computed, is_inner, sealed_in
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.resolve.protected_values import CLEAR, Protected, Value, ViewColumns
from phiproxy.sql.resolve.scope import Source, SourceColumn
from phiproxy.sql.text.parse import Node, messages, strings
from phiproxy.wire.oids import BUILTIN_TYPES


def with_rest(a: Analysis, relation: Relation, view: ViewColumns) -> ViewColumns | None:
    """Return the columns of a view over expressions with its rest; None where that was not opened, or is not about these columns.

    Whoever can change the catalogue may put other columns there: then they are not what the rest was made for.
    """
    sealed = sealed_in(a.context.catalog.views.get(relation.oid, ""))
    rest = a.context.rests.get(sealed) if sealed is not None else None
    if sealed is None or rest is None or len(client_columns(relation)) != len(rest.shown):
        return None
    if not a.context.judging:
        values = values_of(relation, view.values, rest)
        if values is None or not all(_fits(a, one, *found) for one, found in zip(rest.inputs, values, strict=True)):
            return None
    return view._replace(rest=rest, sealed=sealed)


def inside_of(a: Analysis, relation: Relation) -> frozenset[bytes]:
    """Return the views over expressions whose inputs the stored query of a view may read: those that its own rest was made over."""
    sealed = sealed_in(a.context.catalog.views.get(relation.oid, ""))
    rest = a.context.rests.get(sealed) if sealed is not None else None
    return frozenset(rest.over) if rest is not None else frozenset()


def values_of(relation: Relation, values: Sequence[Value], rest: ViewRest) -> list[tuple[CatalogColumn, Value]] | None:
    """Return the columns of the server's view that are c1, c2 … of its rest, with their values; None where one is missing."""
    by_name = {c.name: (c, v) for c, v in zip(relation.columns, values, strict=True)}
    shown = client_columns(relation)
    found = [_column(one, shown) for one in rest.inputs]
    return [by_name[name] for name in found if name is not None] if all(name in by_name for name in found) else None


def told_types(relation: Relation, rest: ViewRest | None) -> dict[str, DeclaredType]:
    """Return the types of columns that the server has as what they were before the view was replaced, by their names."""
    listed = client_columns(relation)
    known = ((listed[one.place].name, one) for one in (rest.told if rest is not None else ()))
    declared = ((name, of_typmod(BUILTIN_TYPES[one.type].oid, one.typmod)) for name, one in known)
    return {name: type_ for name, type_ in declared if type_ is not None}


def _column(one: Input, shown: Sequence[CatalogColumn]) -> str | None:
    if isinstance(one.place, str):
        return one.place if is_inner(one.place) else None
    return shown[one.place].name if one.place < len(shown) else None


def _fits(a: Analysis, one: Input, column: CatalogColumn, value: Value) -> bool:
    if isinstance(value, Protected):
        return one.fits(value.column.identity, value.type, value.type.typmod)
    return one.fits("", clear_type(a.context.catalog, column.type_oid, column.typmod), column.typmod)


def clear_type(catalog: Catalog, oid: int, typmod: int) -> DeclaredType:
    """Return a type of the catalogue with its name: one of the database's own with its schema."""
    own = next((t for t in catalog.types if t.oid == oid), None)
    if own is not None:
        return DeclaredType(own.name, oid, typmod, schema=own.schema)
    row = catalog.signatures.row(oid) if catalog.signatures is not None else None
    return of_typmod(oid, typmod) or DeclaredType(row.name if row is not None else "", oid, typmod)


def readable(a: Analysis, relation: Relation, view: ViewColumns, source: Source, body: Node) -> Source:
    """Return a view over expressions with the columns that a statement may name; StatementRefused, ColumnMasked for a client's.

    ``source`` has all that the server's view has, in its order. A view that shows columns as they are is none of these:

    SELECT social FROM springfield WHERE social = 'x'
    → SELECT social FROM springfield WHERE tag(social) = tag('x')
    """
    assert view.rest is not None
    context = a.context
    if context.inside is None or digest_of(view.sealed) in context.inside:
        wanted = {c.name for c, _ in values_of(relation, view.values, view.rest) or ()}
        listed = zip(relation.columns, source.columns, strict=True)
        return replace(source, columns=tuple(own for column, own in listed if column.name in wanted))
    if context.judging:
        shown = dict(zip((c.name for c in client_columns(relation)), view.rest.shown, strict=True))
        own_columns = zip(relation.columns, source.columns, strict=True)
        known = ((shown.get(column.name), own) for column, own in own_columns)
        return replace(
            source, columns=tuple(own if there else SourceColumn(own.name, CLEAR) for there, own in known if there is not None)
        )
    _check_denied(view.values)
    why = f'view "{relation.name}" computes over protected columns'
    raise a.refuse(why, body, hint="It is read by SELECT; write to the table itself.")


def _check_denied(values: Sequence[Value]) -> None:
    for value in values:
        if isinstance(value, Protected) and value.column.masked is not None and value.column.masked.show.denies:
            denied: ColumnMasked = column_masked(value.column.label, denied=True)
            raise denied


def names_inner(body: Node, context: Context) -> bool:
    """Tell whether a client names a column of views over expressions that only the proxy reads: a source might have it."""
    if not any(map(is_computed, context.catalog.relations)):
        return False
    keys = ("fields", "colnames", "usingClause")
    return any(is_inner(name) for message in messages(body) for key in keys for name in strings(message.get(key, ())))
