"""Terms: expressions that pass a value on unchanged, and what the value may become — a tag, an envelope, or itself.

A column, a parameter, a literal, a column of given values, a scalar subquery, and CASE, COALESCE and NULLIF made of these. Tags
commute with all of them, so a term is compared by letting each leaf be a tag; one that is a result lets each be an envelope.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis, Represented
from phiproxy.sql.citext import as_texts
from phiproxy.sql.collate import check_collations, uncollate
from phiproxy.sql.computed import compared_sink
from phiproxy.sql.dated import dated_sink
from phiproxy.sql.derived import Derived, derived_under
from phiproxy.sql.expressions import Grouping, check_operators, equality_slot, expression, grouping_of, located, unsupported
from phiproxy.sql.meaning import NULLNESS, PLAIN, Search, Store
from phiproxy.sql.namesakes import check_namesake, is_namesake
from phiproxy.sql.operands import OWN, nullif_type, united_type
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.places import at_operator
from phiproxy.sql.respell import reference, value_of
from phiproxy.sql.scope import CLEAR, Clear, Kept, ListColumn, Protected, Scope, Searched, Value
from phiproxy.sql.sinks import TEXT_OID, SinkNode, as_sink, cast_oid, cast_type

TEXT = DeclaredType("text", TEXT_OID)
VARCHAR = DeclaredType("varchar", 1043)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One place that a term's value may come from: a parameter or literal (``sink``), a column or subquery (``value``), a NULLIF.

    ``output`` is the position of the subquery's column among so many (``width``). ``derived``: it is an expression of a column.
    """

    node: Node
    sink: SinkNode | None = None
    value: Protected | ListColumn | None = None
    casts: tuple[Node, ...] = ()
    grouping: Grouping = Grouping.NONE
    output: int = 0
    width: int = 1
    nullif: tuple[Term, Term] | None = None
    derived: Derived | None = None


@dataclass(slots=True)
class Term:
    """The leaves of an expression; ``unprotected`` is a part that is none of them, ``casts`` are no-ops around several leaves.

    ``choices``: there is a CASE among what it is made of; not ``complete``: one that may be none of its leaves. ``left`` are the
    leaves of a CASE that the constants among its conditions leave, and whether it may be nothing else. ``collations`` are COLLATE
    clauses in it. ``namesake``: an unprotected column in it that is named like a protected one.
    """

    node: Node
    leaves: list[Leaf] = field(default_factory=list)
    unprotected: Node | None = None
    casts: list[Node] = field(default_factory=list)
    complete: bool = True
    composed: bool = False
    choices: bool = False
    left: tuple[Sequence[Leaf], bool] | None = None
    collations: list[Node] = field(default_factory=list)
    namesake: Node | None = None

    def columns(self) -> Iterator[ProtectedColumn]:
        """Yield the protected columns among the leaves."""
        for leaf in self.leaves:
            if isinstance(leaf.value, Protected):
                yield leaf.value.column
            for side in leaf.nullif or ():
                yield from side.columns()

    @property
    def single(self) -> Leaf | None:
        """The only leaf, when the term is nothing else."""
        alone = len(self.leaves) == 1 and self.unprotected is None and not self.composed
        return self.leaves[0] if alone else None


def term(a: Analysis, node: Node, scope: Scope) -> Term:
    """Return an expression as a term; what it is made of is looked at once, and what becomes of its leaves is still open."""
    made = Term(node)
    _add(a, made, node, scope)
    return made


def _add(a: Analysis, made: Term, node: Node, scope: Scope) -> None:
    sink = as_sink(node) or compared_sink(a, node) or dated_sink(a, node)
    if sink is not None:
        made.leaves.append(Leaf(node, sink=sink))
        return
    found, inner, casts = derived_under(a, node, scope)
    kind, body = only(inner)
    if found is not None:
        found = found.grouped(a, scope)
        made.leaves.append(Leaf(inner, value=found.made, casts=casts, grouping=found.grouping, derived=found))
        return
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = value_of(a, inner, scope)
        if isinstance(value, Clear):
            made.unprotected = node
            made.namesake = inner if is_namesake(a, inner, value) else made.namesake
        else:
            made.leaves.append(Leaf(inner, value=value, casts=casts, grouping=grouping_of(a, scope, value, inner)))
        return
    rule = PARTS.get(kind)
    if rule is not None and rule(a, made, inner, scope):
        made.casts.extend(casts)
        made.composed = made.composed or kind != "SubLink" or bool(casts)
        return
    if rule is None and not isinstance(expression(a, node, scope), Clear):
        raise a.refuse("this use of a protected value is not understood", located(node), hint="Use the column itself.")
    made.unprotected = node


def _coalesce(a: Analysis, made: Term, node: Node, scope: Scope) -> bool:
    for argument in only(node)[1]["args"]:
        _add(a, made, argument, scope)
    return True


# What passes values on: adds the leaves, or answers that the whole is nothing protected.
PARTS: dict[str, Callable[[Analysis, Term, Node, Scope], bool]] = {"CoalesceExpr": _coalesce}


def add_part(a: Analysis, made: Term, node: Node, scope: Scope) -> None:
    """Add another expression whose value may be the term's."""
    _add(a, made, node, scope)


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


def as_tags(a: Analysis, made: Term, column: ProtectedColumn, slot: Slot, type_oid: int = OWN, *, stored: bool = False) -> None:
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
    # Results of one CASE or COALESCE that are all values: what the casts of some say holds for those without (manual 10.5).
    said = {oid for leaf in made.leaves if leaf.sink is not None and (oid := said_type(leaf))}
    values = all(leaf.sink is not None for leaf in made.leaves)
    shared = said.pop() if len(said) == 1 and values else TEXT_OID if values and made.composed and not said else type_oid
    for leaf in made.leaves:
        if leaf.sink is not None:
            oid = shared if not leaf.sink.array else OWN
            a.use(leaf.sink, Search(column, slot, column.type, leaf.sink.array), oid)
        elif leaf.nullif is not None:
            untyped = all(part.sink is not None and not said_type(part) for side in leaf.nullif for part in side.leaves)
            for side in leaf.nullif:
                as_tags(a, side, column, slot, TEXT_OID if untyped else type_oid)
        elif isinstance(leaf.value, ListColumn):
            leaf.value.users.append(Searched(column, slot, leaf.node, leaf.output, leaf.width))
            leaf.value.casts.extend(leaf.casts)
        else:
            same_identity(a, [column, *made.columns()], made.node)
            _tag_leaf(a, leaf, slot, stored=stored)
            a.strip(leaf.casts, column)
    a.strip(made.casts, column)
    uncollate(a, made.collations, column)


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


def said_type(made: Leaf) -> int:
    """Return the type of a value with a cast, of an expression, or of a column (0: it may be of any)."""
    if made.sink is not None:
        return made.sink.said_oid
    if made.casts:
        return cast_oid(made.casts[0])
    return made.value.type.underlying.oid if isinstance(made.value, Protected) else TEXT_OID


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
        shown = _common(column, made.leaves, complete=made.complete)
    with a.together():
        for leaf in made.leaves:
            if leaf.sink is not None:
                a.use(leaf.sink, Store(column.unbounded, a.new_row()), shown.oid)
    for leaf in (leaf for leaf in made.leaves if leaf.sink is None):
        if isinstance(leaf.value, ListColumn):
            leaf.value.users.append(Kept(column, column.type.underlying.oid))
            leaf.value.casts.extend(leaf.casts)
        elif leaf.nullif is not None:
            _nullif_value(a, leaf, column)
        else:
            _passed_on(a, leaf)
    a.strip(made.casts, column)
    uncollate(a, made.collations, column)
    if made.casts:
        return Protected(column, cast_type(only(made.casts[0])[1]) or TEXT, cast=True)
    return Protected(column, shown, cast=True, planned=_planned(column, made, shown))


def _nullif_value(a: Analysis, leaf: Leaf, column: ProtectedColumn) -> None:
    assert leaf.nullif is not None
    first = leaf.nullif[0].single
    if first is None or "ColumnRef" not in first.node or not isinstance(first.value, Protected) or first.grouping != Grouping.NONE:
        raise a.refuse(
            f"NULLIF over {column.label} is understood only when its first argument is the column",
            located(leaf.node),
            hint="Write CASE WHEN … THEN NULL ELSE … END.",
        )
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
        planned = _common(column, made.left[0], complete=made.left[1])
    else:
        kept = [leaf for leaf in made.leaves if leaf.sink is None or leaf.sink.kind != "null"]
        if made.choices or len(kept) == len(made.leaves):
            return None
        planned = _common(column, kept, complete=made.complete)
    return planned if planned.oid == shown.oid else None


def _common(column: ProtectedColumn, leaves: Sequence[Leaf], *, complete: bool) -> DeclaredType:
    """Return the type of the whole (manual 10.5); a length stays only where every part is a column of it."""
    types = [_type_of(leaf) for leaf in leaves]
    known = [t for t in types if t is not None]
    if complete and len(known) == len(types) and len(set(known)) == 1:
        return known[0]
    return united_type(column, known)


def _type_of(leaf: Leaf) -> DeclaredType | None:
    casts = leaf.sink.casts if leaf.sink is not None else leaf.casts
    if casts:
        return cast_type(only(casts[0])[1])
    if leaf.sink is not None and leaf.sink.own is not None:
        return leaf.sink.own
    if leaf.nullif is not None:
        first = leaf.nullif[0].single
        value = first.value if first is not None else None
        return nullif_type(value.type) if isinstance(value, Protected) else TEXT
    if leaf.sink is not None and leaf.sink.formula is not None:
        return TEXT  # that is what its = compares, and its functions return
    return leaf.value.type if isinstance(leaf.value, Protected) else None


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
    """Terms of given values that are compared with each other: by their tags, should one of the values be protected elsewhere."""

    node: Node
    terms: tuple[Term, ...]


def compare(a: Analysis, node: Node, terms: Sequence[Term], type_oid: int = OWN, *, apart: bool = False) -> bool:
    """Compare terms for equality (``apart``: one after the other): by tags when something protected is among them, the answer."""
    terms = as_texts(a, terms)
    columns = [column for made in terms for column in made.columns()]
    if columns:
        check_collations(a, [clause for made in terms for clause in made.collations])
        column = same_identity(a, columns, node)
        owner = next(leaf.node for made in terms for leaf in made.leaves if leaf.nullif or isinstance(leaf.value, Protected))
        slot = equality_slot(a, column, owner)
        check_operators(a, column, node)
        with nullcontext() if apart else a.together():
            for made in terms:
                with at_operator(a, node, made.node):
                    as_tags(a, made, column, slot, type_oid, stored=True)
        return True
    namesake = next((made.namesake for made in terms if made.namesake is not None), None)
    if namesake is not None:
        check_namesake(a, namesake, (leaf.sink or leaf.value for made in terms for leaf in made.leaves))
    if all(made.unprotected is None for made in terms):
        a.comparisons.append(Comparison(node, tuple(terms)))
        return False
    for made in terms:
        as_plain(a, made)
    return False
