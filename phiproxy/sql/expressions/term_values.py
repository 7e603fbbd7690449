"""Terms as results, and whether they are NULL: each leaf becomes an envelope where one of them is protected."""

import dataclasses
from collections.abc import Sequence

from phiproxy.errors import StatementRefused
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import reference
from phiproxy.sql.expressions.comparisons import compare
from phiproxy.sql.expressions.expression import Grouping, equality_slot, located
from phiproxy.sql.expressions.leaves import Leaf, Term, cast_types
from phiproxy.sql.expressions.terms import as_plain, as_tags, may_be_left_out, same_identity, uncollate
from phiproxy.sql.resolve.protected_values import CLEAR, Combined, ListColumn, Protected, Value
from phiproxy.sql.rewrite.common_changes import NullifToCase
from phiproxy.sql.text.parse import only
from phiproxy.sql.values.accepted_types import OWN, changes_nothing
from phiproxy.sql.values.operands import Operand, cast_type
from phiproxy.sql.values.type_resolution import TEXT, Type, common_type
from phiproxy.sql.values.uses import NULLNESS, Store
from phiproxy.types.names import sql_name


def as_value(a: Analysis, whole: Term) -> Value:
    """Return the value of a term that is a result: if a leaf is protected, every leaf becomes an envelope of that identity.

    SELECT CASE WHEN active THEN ssn ELSE $1 END FROM patients
    → SELECT CASE WHEN active THEN ssn ELSE envelope($1) END FROM patients
    """
    single = whole.single
    if single is not None and single.value is not None:
        return _passed_on(a, single)
    columns = list(whole.columns())
    if not columns:
        as_plain(a, whole)
        return CLEAR
    column = same_identity(a, columns, whole.node)
    if whole.unprotected is not None:
        raise a.refuse(
            f"{column.label} is protected and meets something unprotected here",
            located(whole.unprotected),
            hint="Let the other values be parameters, literals, NULL or columns of the same identity.",
        )
    with a.positioned(located(whole.node)):
        shown = united_type(column, whole.part.resolve() or TEXT)
    with a.together():
        for leaf in whole.leaves:
            if leaf.operand is not None:
                perhaps = may_be_left_out(whole, leaf)
                a.use(leaf.operand, Store(column.unbounded, a.new_row(), perhaps=perhaps), OWN, leaf.part.steps)
    for leaf in (leaf for leaf in whole.leaves if leaf.operand is None):
        if isinstance(leaf.value, ListColumn):
            leaf.value.users.append(Combined(column, (*cast_types(leaf.casts), *leaf.part.steps)))
            leaf.value.casts.extend(leaf.casts)
        elif leaf.nullif is not None:
            _nullif_value(a, leaf, column)
        else:
            _check_unchanged(a, leaf, column)
            _passed_on(a, leaf)
    a.strip(whole.casts, column)
    uncollate(a, whole.collations, column)
    return Protected(column, shown, cast=True, planned=None if whole.casts else _planned(column, whole, shown))


def united_type(column: ProtectedColumn, united: DeclaredType) -> DeclaredType:
    """Return the type of a result with a protected column among its leaves; StatementRefused where it is not the column's."""
    own = column.type.underlying
    if united.underlying.oid != own.oid and not (united.is_text and own.is_text):
        why = f"values of type {sql_name(united)} would be shown together with {column.label}, which is of type {sql_name(own)}"
        raise StatementRefused(why, hint=f"Cast them to {sql_name(own)}.")
    return united


def _check_unchanged(a: Analysis, leaf: Leaf, column: ProtectedColumn) -> None:
    """Refuse a column whose values would be converted: its envelopes are passed on as they are."""
    for to in leaf.part.steps:
        if not changes_nothing(column.type, to):
            why = f"{column.label} would become {sql_name(to)} here"
            raise a.refuse(why, located(leaf.node), hint=f"Let all values be of type {sql_name(column.type.underlying)}.")


def _nullif_value(a: Analysis, leaf: Leaf, column: ProtectedColumn) -> None:
    assert leaf.nullif is not None
    first = leaf.nullif[0].single
    if first is None or "ColumnRef" not in first.node or not isinstance(first.value, Protected) or first.grouping != Grouping.NONE:
        why = f"NULLIF over {column.label} is understood only when its first argument is the column"
        raise a.refuse(why, located(leaf.node), hint="Write CASE WHEN … THEN NULL ELSE … END.")
    with a.positioned(located(leaf.node)):
        leaf.part.resolve()
    _check_unchanged(a, first, column)
    a.rewrites.add(NullifToCase(leaf.node, reference(a, first.node)), leaf.node)
    compare(a, leaf.node, leaf.nullif)


def _passed_on(a: Analysis, leaf: Leaf) -> Value:
    value = leaf.value
    assert value is not None
    if isinstance(value, ListColumn):
        value.casts.extend(leaf.casts)
        return value
    a.strip(leaf.casts, value.column)
    if leaf.derived is not None:
        leaf.derived.show(a)
    elif leaf.grouping != Grouping.NONE:
        a.represent(leaf.node, equality_slot(a, value.column, leaf.node), sets=leaf.grouping == Grouping.SETS)
    shown = cast_type(only(leaf.casts[0])[1]) if leaf.casts else None
    cast = value.cast or "ColumnRef" not in leaf.node or (shown is not None and shown != value.type)
    return dataclasses.replace(value, type=shown or value.type, cast=cast, planned=None if shown else value.planned)


def _planned(column: ProtectedColumn, whole: Term, shown: DeclaredType) -> DeclaredType | None:
    """Return the type once PostgreSQL has planned the statement and dropped NULLs and constant conditions, or None if it stays."""
    if whole.left is not None:
        planned = _common(whole.left[0], complete=whole.left[1])
    else:
        possible = [
            leaf for leaf in whole.leaves if leaf.operand is None or leaf.operand.kind != "null" or _is_of_domain(leaf.operand)
        ]
        constant = None if whole.choices or not possible else _constant(possible[0])
        if whole.choices or (constant is None and len(possible) == len(whole.leaves)):
            return None
        planned = constant or _common(possible, complete=whole.complete)
    return planned if planned.oid == shown.oid else None


def _constant(leaf: Leaf) -> Type:
    """Return the type of the constant that a COALESCE begins with, which is all that PostgreSQL leaves of it."""
    operand = leaf.operand
    plain = (
        operand is not None and operand.kind in ("literal", "constant") and not _is_of_domain(operand) and len(operand.types) == 1
    )
    return leaf.part.own if plain else None


def _is_of_domain(operand: Operand) -> bool:
    """Tell whether a constant is cast to a domain: PostgreSQL checks that when it runs, and so does not drop the rest."""
    return any(declared.base is not None for declared in operand.types)


def _common(leaves: Sequence[Leaf], *, complete: bool) -> DeclaredType:
    """Return the type of several leaves (manual 10.5); a length remains only where every leaf is a column with it."""
    types = [leaf.part.own if leaf.nullif is None else leaf.part.resolve() for leaf in leaves]
    first = types[0] if types else None
    return first if complete and first is not None and all(other == first for other in types) else common_type(types)


def as_null_test(a: Analysis, whole: Term) -> None:
    """Leave a term of which only NULL is asked: envelopes, tags and constants are NULL where the values are.

    SELECT id FROM patients WHERE COALESCE(ssn, 'x') IS NULL
    → SELECT id FROM patients WHERE COALESCE(tag(ssn), tag('x')) IS NULL
    """
    single = whole.single
    if single is None:
        _whole_null_test(a, whole)
    elif single.operand is not None:
        a.use(single.operand, NULLNESS)
    elif isinstance(single.value, ListColumn):
        single.value.casts.extend(single.casts)
    elif single.nullif is not None:
        compare(a, whole.node, single.nullif)
    elif single.grouping != Grouping.NONE and isinstance(single.value, Protected):
        as_tags(a, whole, single.value.column, equality_slot(a, single.value.column, single.node))
    elif single.derived is not None and not single.derived.total:
        as_tags(a, whole, single.derived.result.column, equality_slot(a, single.derived.result.column, single.node))
    else:
        _passed_on(a, single)


def _whole_null_test(a: Analysis, whole: Term) -> None:
    columns = list(whole.columns())
    opened = all(leaf.nullif is None and (leaf.derived is None or leaf.derived.total) for leaf in whole.leaves)
    if len({column.form for column in columns}) > 1:
        of = " and ".join(dict.fromkeys(column.label for column in columns))
        why = f"{of} are stored as different types, which nothing takes together"
        raise a.refuse(why, located(whole.node), hint="Ask each of them: … IS NULL AND … IS NULL.")
    if len(columns) == len(whole.leaves) and whole.unprotected is None and opened:
        for leaf in whole.leaves:
            _passed_on(a, leaf)
        for column in columns:
            a.strip(whole.casts, column)
        if columns:
            uncollate(a, whole.collations, columns[0])
    elif columns:
        column = same_identity(a, columns, whole.node)
        as_tags(a, whole, column, equality_slot(a, column, whole.node))
    else:
        as_plain(a, whole)
