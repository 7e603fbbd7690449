"""Terms: expressions that pass a value on unchanged, and what the value may become — a tag, an envelope, or itself.

A column, a parameter, a literal, a column of given values, a scalar subquery, and CASE, COALESCE and NULLIF made of these. Tags
commute with all of them, so a term is compared by letting each leaf be a tag; one that is a result lets each be an envelope.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from phiproxy.errors import StatementRefused
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis, Represented
from phiproxy.sql.citext import as_texts
from phiproxy.sql.collate import check_collations, uncollate
from phiproxy.sql.expressions import Grouping, check_operators, equality_slot, located, unsupported
from phiproxy.sql.leaves import Leaf, Term, cast_types
from phiproxy.sql.meaning import NULLNESS, PLAIN, Search, Store
from phiproxy.sql.namesakes import check_namesake
from phiproxy.sql.operands import OWN, changes_nothing
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.places import at_operator
from phiproxy.sql.respell import reference
from phiproxy.sql.scope import CLEAR, Kept, ListColumn, Protected, Searched, Value
from phiproxy.sql.sinks import SinkNode, cast_type
from phiproxy.sql.type_resolution import (
    TEXT,
    Part,
    Type,
    check_apart,
    common_type,
    compare_listed,
    compare_pair,
    compare_with_column,
)
from phiproxy.types.equality import Equality
from phiproxy.types.names import sql_name


def as_plain(a: Analysis, made: Term) -> None:
    """Let every leaf be itself; refuses a protected one."""
    for leaf in made.leaves:
        if leaf.sink is not None:
            a.use(leaf.sink, PLAIN)
        elif isinstance(leaf.value, ListColumn):
            leaf.value.users.append(None)
        elif leaf.nullif is not None:
            for side in leaf.nullif:
                as_plain(a, side)
        elif leaf.value is not None:
            raise unsupported(a, leaf.value.column, leaf.node)


def as_tags(a: Analysis, made: Term, column: ProtectedColumn, slot: Slot, *, stored: bool = False) -> None:
    """Let every leaf be a tag of ``slot``, to be compared with ``column``; ``stored``: the generated column, where there is one."""
    if not a.context.catalog.replaced.isdisjoint(("=", "<>")):
        raise a.refuse(
            f"{column.label} would be compared by its tags, and an operator = or <> for texts or bytea is not the server's",
            located(made.node),
            hint="Drop that operator, or give it another name.",
        )
    if made.unprotected is not None:
        raise a.refuse(
            f"{column.label} is protected and can only be compared with values or columns of the same identity",
            located(made.unprotected),
            hint="Compare it with a text parameter, a text literal, NULL, or ANY or ALL of an array of these.",
        )
    with a.placed(located(made.node)):
        made.part.resolve()
    for leaf in made.leaves:
        steps = tuple(leaf.part.steps)
        if leaf.sink is not None:
            perhaps = _may_be_left_out(made, leaf)
            a.use(leaf.sink, Search(column, slot, column.type, leaf.sink.array, perhaps=perhaps), OWN, steps)
        elif leaf.nullif is not None:
            for side in leaf.nullif:
                as_tags(a, side, column, slot)
        elif isinstance(leaf.value, ListColumn):
            leaf.value.users.append(Searched(column, slot, leaf.node, leaf.output, leaf.width, (*cast_types(leaf.casts), *steps)))
            leaf.value.casts.extend(leaf.casts)
        else:
            same_identity(a, [column, *made.columns()], made.node)
            with a.placed(located(leaf.node)):
                check_apart(leaf.value.type if isinstance(leaf.value, Protected) else column.type, steps)
            _tag_leaf(a, leaf, slot, stored=stored)
            a.strip(leaf.casts, column)
    a.strip(made.casts, column)
    uncollate(a, made.collations, column)


def _may_be_left_out(made: Term, leaf: Leaf) -> bool:
    """Tell whether CASE or COALESCE may not come to a value: to any of CASE's results, and to all of COALESCE's but the first."""
    return made.choices or leaf is not made.leaves[0]


def _tag_leaf(a: Analysis, leaf: Leaf, slot: Slot, *, stored: bool) -> None:
    """Let a column, or an expression of one, be its tag."""
    if leaf.derived is not None:
        leaf.derived.tag(a, slot, stored=stored)
    elif leaf.grouping == Grouping.OUTSIDE:
        a.represented.append(Represented(leaf.node, slot, sets=False, tag=slot))
    else:
        tags = dict(leaf.value.tags) if isinstance(leaf.value, Protected) and leaf.grouping == Grouping.NONE else {}
        if stored and slot.number in tags:
            a.stored_tags[id(leaf.node)] = tags[slot.number]
        a.tag(leaf.node, slot, leaf.output, leaf.width)


def as_value(a: Analysis, made: Term) -> Value:
    """Let a term be a result: where something protected is among its leaves, each becomes an envelope of that identity."""
    single = made.single
    if single is not None and single.value is not None:
        return _passed_on(a, single)
    columns = list(made.columns())
    if not columns:
        as_plain(a, made)
        return CLEAR
    column = same_identity(a, columns, made.node)
    if made.unprotected is not None:
        raise a.refuse(
            f"{column.label} is protected and meets something unprotected here",
            located(made.unprotected),
            hint="Let the other values be parameters, literals, NULL or columns of the same identity.",
        )
    with a.placed(located(made.node)):
        shown = united_type(column, made.part.resolve() or TEXT)
    with a.together():
        for leaf in made.leaves:
            if leaf.sink is not None:
                perhaps = _may_be_left_out(made, leaf)
                a.use(leaf.sink, Store(column.unbounded, a.new_row(), perhaps=perhaps), OWN, leaf.part.steps)
    for leaf in (leaf for leaf in made.leaves if leaf.sink is None):
        if isinstance(leaf.value, ListColumn):
            leaf.value.users.append(Kept(column, (*cast_types(leaf.casts), *leaf.part.steps)))
            leaf.value.casts.extend(leaf.casts)
        elif leaf.nullif is not None:
            _nullif_value(a, leaf, column)
        else:
            _check_unchanged(a, leaf, column)
            _passed_on(a, leaf)
    a.strip(made.casts, column)
    uncollate(a, made.collations, column)
    return Protected(column, shown, cast=True, planned=None if made.casts else _planned(column, made, shown))


def united_type(column: ProtectedColumn, found: DeclaredType) -> DeclaredType:
    """Return the type of values one of which is a protected column; StatementRefused where that is not the column's."""
    own = column.type.underlying
    if found.underlying.oid != own.oid and not (found.is_text and own.is_text):
        raise StatementRefused(
            f"values of type {sql_name(found)} would be shown together with {column.label}, which is of type {sql_name(own)}",
            hint=f"Cast them to {sql_name(own)}.",
        )
    return found


def _check_unchanged(a: Analysis, leaf: Leaf, column: ProtectedColumn) -> None:
    """Refuse a column whose values would become others: what the server has of them is passed on as it is."""
    for to in leaf.part.steps:
        if not changes_nothing(column.type, to):
            raise a.refuse(
                f"{column.label} would become {sql_name(to)} here",
                located(leaf.node),
                hint=f"Let all values be of type {sql_name(column.type.underlying)}.",
            )


def _nullif_value(a: Analysis, leaf: Leaf, column: ProtectedColumn) -> None:
    assert leaf.nullif is not None
    first = leaf.nullif[0].single
    if first is None or "ColumnRef" not in first.node or not isinstance(first.value, Protected) or first.grouping != Grouping.NONE:
        raise a.refuse(
            f"NULLIF over {column.label} is understood only when its first argument is the column",
            located(leaf.node),
            hint="Write CASE WHEN … THEN NULL ELSE … END.",
        )
    with a.placed(located(leaf.node)):
        leaf.part.resolve()
    _check_unchanged(a, first, column)
    a.nullifs.append((leaf.node, reference(a, first.node)))
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
        a.represented.append(Represented(leaf.node, equality_slot(a, value.column, leaf.node), leaf.grouping == Grouping.SETS))
    shown = cast_type(only(leaf.casts[0])[1]) if leaf.casts else None
    cast = value.cast or "ColumnRef" not in leaf.node or (shown is not None and shown != value.type)
    return dataclasses.replace(value, type=shown or value.type, cast=cast, planned=None if shown else value.planned)


def _planned(column: ProtectedColumn, made: Term, shown: DeclaredType) -> DeclaredType | None:
    """Return the type of a COALESCE without its NULLs, or of what is left of a CASE, once PostgreSQL has planned it; else None."""
    if made.left is not None:
        planned = _common(made.left[0], complete=made.left[1])
    else:
        kept = [leaf for leaf in made.leaves if leaf.sink is None or leaf.sink.kind != "null" or _is_of_domain(leaf.sink)]
        constant = None if made.choices or not kept else _constant(kept[0])
        if made.choices or (constant is None and len(kept) == len(made.leaves)):
            return None
        planned = constant or _common(kept, complete=made.complete)
    return planned if planned.oid == shown.oid else None


def _constant(leaf: Leaf) -> Type:
    """Return the type of a constant, which is all that is left of a COALESCE that begins with it."""
    sink = leaf.sink
    plain = sink is not None and sink.kind in ("literal", "constant") and not _is_of_domain(sink) and len(sink.types) == 1
    return leaf.part.own if plain else None


def _is_of_domain(sink: SinkNode) -> bool:
    """Tell whether it is cast to a domain, whose conditions are looked at when the statement runs: no constant to a plan."""
    return any(declared.base is not None for declared in sink.types)


def _common(leaves: Sequence[Leaf], *, complete: bool) -> DeclaredType:
    """Return the type of the whole (manual 10.5); a length stays only where every part is a column of it."""
    types = [leaf.part.own if leaf.nullif is None else leaf.part.resolve() for leaf in leaves]
    first = types[0] if types else None
    return first if complete and first is not None and all(other == first for other in types) else common_type(types)


def as_null_test(a: Analysis, made: Term) -> None:
    """Let a term be asked only whether it is NULL: an envelope, a tag and a constant answer alike."""
    single = made.single
    if single is None:
        _whole_null_test(a, made)
    elif single.sink is not None:
        a.use(single.sink, NULLNESS)
    elif isinstance(single.value, ListColumn):
        single.value.casts.extend(single.casts)
    elif single.nullif is not None:
        compare(a, made.node, single.nullif)
    elif single.grouping != Grouping.NONE and isinstance(single.value, Protected):
        as_tags(a, made, single.value.column, equality_slot(a, single.value.column, single.node))
    elif single.derived is not None and not single.derived.total:
        as_tags(a, made, single.derived.made.column, equality_slot(a, single.derived.made.column, single.node))
    else:
        _passed_on(a, single)


def _whole_null_test(a: Analysis, made: Term) -> None:
    columns = list(made.columns())
    opened = all(leaf.nullif is None and (leaf.derived is None or leaf.derived.total) for leaf in made.leaves)
    if len(columns) == len(made.leaves) and made.unprotected is None and opened:
        for leaf in made.leaves:
            _passed_on(a, leaf)
        for column in columns:
            a.strip(made.casts, column)
        if columns:
            uncollate(a, made.collations, columns[0])
    elif columns:
        column = same_identity(a, columns, made.node)
        as_tags(a, made, column, equality_slot(a, column, made.node))
    else:
        as_plain(a, made)


def same_identity(a: Analysis, columns: Sequence[ProtectedColumn], node: Node) -> ProtectedColumn:
    """Return the first of several columns; refuses two identities."""
    column = columns[0]
    for other in columns:
        if other.identity != column.identity:
            raise a.refuse(
                f"{column.label} and {other.label} have different identities and cannot be compared or mixed",
                located(node),
                hint="Columns that are compared share a domain in the policy.",
            )
    return column


@dataclass(frozen=True, slots=True)
class Comparison:
    """Terms that are compared: the first with each of the others. ``listed``: these become one type first, as in a list of IN.

    ``element``: they are those of an ARRAY[…], which is cast to arrays of these types, and without a cast become one type.
    """

    node: Node
    terms: tuple[Term, ...]
    listed: bool = False
    element: tuple[DeclaredType, ...] | None = None

    def resolve(self, declared: DeclaredType) -> None:
        """Let the values become what they are compared as with a column of a type; refusals have no position."""
        first, *others = (made.part for made in self.terms)
        found: list[Equality] = []
        if self.element is None:
            types = [other.resolve() for other in others]
            if first.resolve() is None and None in types and any(t is not None and not t.is_text for t in types):
                raise _of_several_types()
            listed = [made.part for made in self.terms[1:] if self.listed and _is_listed(made)]
            if len(listed) > 1:
                compare_listed(first, listed)
            found = [compare_pair(first, other) for other in others]
        elif others:
            array = Part(parts=others, merges=not self.element, casts=self.element)
            array.resolve()
            found = [compare_pair(first, other) for other in others]
        points = list(dict.fromkeys(equality.at for equality in found))
        compare_with_column(declared, others, [equality.at for equality in found])
        if any(leaf.sink is not None or isinstance(leaf.value, ListColumn) for leaf in self.terms[0].leaves):
            if len(points) > 1:
                raise _of_several_types()
            compare_with_column(declared, [first] * len(points), points)


def _of_several_types() -> StatementRefused:
    return StatementRefused(
        "a value is compared with several of different types beside a protected column",
        hint="Write value = column OR value = other.",
    )


def _is_listed(made: Term) -> bool:
    """Tell whether an item of a list has no column of this query in it (contain_vars_of_level)."""
    return made.unprotected is None and all(leaf.sink is not None or "SubLink" in leaf.node for leaf in made.leaves)


def compare(
    a: Analysis,
    node: Node,
    terms: Sequence[Term],
    *,
    apart: bool = False,
    listed: bool = False,
    element: tuple[DeclaredType, ...] | None = None,
) -> bool:
    """Compare terms for equality (``apart``: one after the other): by tags when something protected is among them, the answer.

    ``listed``, ``element``: see Comparison.
    """
    comparison = Comparison(node, tuple(as_texts(a, terms)), listed, element)
    columns = [column for made in comparison.terms for column in made.columns()]
    if columns:
        column = same_identity(a, columns, node)
        compare_tags(a, comparison, column, apart=apart)
        return True
    terms = comparison.terms
    namesake = next((made.namesake for made in terms if made.namesake is not None), None)
    if namesake is not None:
        check_namesake(a, namesake, (leaf.sink or leaf.value for made in terms for leaf in made.leaves))
    if all(made.unprotected is None for made in terms):
        a.comparisons.append(comparison)
        return False
    for made in terms:
        as_plain(a, made)
    return False


def compare_tags(a: Analysis, comparison: Comparison, column: ProtectedColumn, *, apart: bool = False) -> None:
    """Compare terms by tags of a column, of which one of them is, or one of the values elsewhere."""
    node, terms = comparison.node, comparison.terms
    check_collations(a, [clause for made in terms for clause in made.collations])
    leaves = [leaf for made in terms for leaf in made.leaves]
    owner = next((leaf.node for leaf in leaves if leaf.nullif or isinstance(leaf.value, Protected)), node)
    slot = equality_slot(a, column, owner)
    check_operators(a, column, node)
    if all(made.unprotected is None for made in terms):
        with a.placed(located(node)), at_operator(a, node, terms[-1].node):
            comparison.resolve(column.type)
    with nullcontext() if apart else a.together():
        for made in terms:
            if not _stays_null(node, made):
                with at_operator(a, node, made.node):
                    as_tags(a, made, column, slot, stored=True)


def _stays_null(node: Node, made: Term) -> bool:
    """Tell whether an operand is NULL as it is written: then it is the server that knows what transform_null_equals is set to."""
    kind, body = only(node)
    operator = kind == "A_Expr" and body["kind"] == "AEXPR_OP" and strings(body["name"]) == ["="]
    return operator and "A_Const" in made.node and "isnull" in made.node["A_Const"]
