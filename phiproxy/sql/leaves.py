"""What an expression is made of: leaves that pass a value on unchanged, and CASE, COALESCE and NULLIF of these.

A column, a parameter, a literal, a column of given values, a scalar subquery. What becomes of them is still open (``terms``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.computed import compared_sink
from phiproxy.sql.dated import dated_sink
from phiproxy.sql.derived import Derived, derived_under
from phiproxy.sql.expressions import Grouping, expression, grouping_of, located
from phiproxy.sql.given_types import type_of
from phiproxy.sql.namesakes import is_namesake
from phiproxy.sql.operands import changes_nothing
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.respell import value_of
from phiproxy.sql.scope import Clear, ListColumn, Protected, Scope, is_whole_row
from phiproxy.sql.sinks import SinkNode, as_sink, cast_type
from phiproxy.sql.type_resolution import Part, Type


@dataclass(frozen=True, slots=True)
class Leaf:
    """One place that a term's value may come from: a parameter or literal (``sink``), a column or subquery (``value``), a NULLIF.

    ``output`` is the position of the subquery's column among so many (``width``). ``derived``: it is an expression of a column.
    ``part`` tells its type, and what becomes of it.
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
    part: Part = field(init=False, compare=False)

    def __post_init__(self) -> None:
        sides = None if self.nullif is None else (self.nullif[0].part, self.nullif[1].part)
        object.__setattr__(self, "part", Part(_type_of(self), nullif=sides))


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
    part: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        self.part.parts.extend(leaf.part for leaf in self.leaves)

    def add(self, leaf: Leaf) -> None:
        """Add a leaf, and its part to what is being made."""
        self.leaves.append(leaf)
        self.part.parts.append(leaf.part)

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
        made.add(Leaf(node, sink=sink))
        return
    found, inner, casts = derived_under(a, node, scope)
    kind, body = only(inner)
    if found is not None:
        found = found.grouped(a, scope)
        made.add(Leaf(inner, value=found.made, casts=casts, grouping=found.grouping, derived=found))
        return
    if kind == "TypeCast":
        inner, casts = _own_casts(a, inner, casts, scope)
        kind, body = only(inner)
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = value_of(a, inner, scope)
        if isinstance(value, Clear):
            made.unprotected = node
            made.namesake = inner if is_namesake(a, inner, value) else made.namesake
        else:
            made.add(Leaf(inner, value=value, casts=casts, grouping=grouping_of(a, scope, value, inner)))
        return
    rule = PARTS.get(kind)
    outer, made.part = made.part, Part(merges=kind in ("CaseExpr", "CoalesceExpr"), casts=cast_types(casts))
    answered = rule is not None and rule(a, made, inner, scope)
    outer.parts.append(made.part)
    made.part = outer
    if answered:
        made.casts.extend(casts)
        made.composed = made.composed or kind != "SubLink" or bool(casts)
        return
    if rule is None and not isinstance(expression(a, node, scope), Clear):
        raise a.refuse("this use of a protected value is not understood", located(node), hint="Use the column itself.")
    made.unprotected = node


def _own_casts(a: Analysis, node: Node, casts: tuple[Node, ...], scope: Scope) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under casts of a column to its own type, or of given values to any, and all casts from the outside in."""
    inner, found = node, list(casts)
    while "TypeCast" in inner:
        found.append(inner)
        inner = only(inner)[1]["arg"]
    kind, body = only(inner)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*" or is_whole_row(scope, strings(body["fields"])):
        return node, casts
    value = value_of(a, inner, scope)
    a.respelled.pop(id(inner), None)
    types = [cast_type(only(cast)[1]) for cast in found]
    if isinstance(value, Protected):
        known = all(to is not None and changes_nothing(value.type, to) for to in types)
    else:
        known = isinstance(value, ListColumn) and None not in types
    return (inner, tuple(found)) if known else (node, casts)


def _coalesce(a: Analysis, made: Term, node: Node, scope: Scope) -> bool:
    for argument in only(node)[1]["args"]:
        _add(a, made, argument, scope)
    return True


# What passes values on: adds the leaves, or answers that the whole is nothing protected.
PARTS: dict[str, Callable[[Analysis, Term, Node, Scope], bool]] = {"CoalesceExpr": _coalesce}


def cast_types(casts: Sequence[Node]) -> tuple[DeclaredType, ...]:
    """Return the types that casts, from the outside in, name, in the order in which they are done."""
    found = (cast_type(only(cast)[1]) for cast in reversed(casts))
    return tuple(declared for declared in found if declared is not None)


def add_part(a: Analysis, made: Term, node: Node, scope: Scope) -> None:
    """Add another expression whose value may be the term's."""
    _add(a, made, node, scope)


def _type_of(leaf: Leaf) -> Type:
    """Return the type that a leaf has by itself; None of one that has none, and of a NULLIF."""
    if leaf.sink is not None:
        return leaf.sink.value_type
    if leaf.casts:
        return cast_type(only(leaf.casts[0])[1])
    if isinstance(leaf.value, ListColumn):
        return type_of(leaf.value)
    return leaf.value.type if leaf.value is not None else None
