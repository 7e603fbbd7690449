"""Terms: expressions whose value is that of one of their leaves, which CASE, COALESCE and COLLATE combine.

Leaves: column, parameter, literal, column of given values, scalar subquery, NULLIF. ``terms`` decides what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from phiproxy.frozen import dataclass
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import is_namesake, keep, value_of
from phiproxy.sql.expressions.constant_arithmetic import arithmetic_operand
from phiproxy.sql.expressions.constant_formulas import compared_operand
from phiproxy.sql.expressions.expression import Grouping, expression, grouping_of, located
from phiproxy.sql.expressions.index_expressions import Derived, derived_under
from phiproxy.sql.resolve.protected_values import Clear, ListColumn, Protected, type_of
from phiproxy.sql.resolve.scope import Scope, is_whole_row
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.accepted_types import changes_nothing
from phiproxy.sql.values.operands import Operand, as_operand, cast_type
from phiproxy.sql.values.type_resolution import Part, Type


@dataclass(frozen=True, slots=True)
class Leaf:
    """One part of a term that may be its value: an operand, a column or subquery (``value``), or a NULLIF.

    ``output`` is the position of the subquery's column among its ``width`` columns. ``derived``: it is an expression of a column.
    ``part`` holds its type, and the types that it is converted to.
    """

    node: Node
    operand: Operand | None = None
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
    """The leaves of an expression that passes a value on.

    ``unprotected`` is a part that is no leaf. ``casts`` are casts around several leaves that change nothing. ``complete`` is false
    where the value may be none of the leaves (a CASE without ELSE). ``composed``: there is CASE, COALESCE or a cast around the
    leaves. ``choices``: a CASE is among them. ``left`` are the leaves that constant conditions leave of a CASE, and whether its
    value is one of them. ``collations`` are COLLATE clauses in it. ``namesake`` is an unprotected column in it with the name of a
    protected one.
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
        only_one = len(self.leaves) == 1 and self.unprotected is None and not self.composed
        return self.leaves[0] if only_one else None


def term(a: Analysis, node: Node, scope: Scope) -> Term:
    """Return an expression as a term. Its parts are analysed once; what becomes of the leaves is decided later.

    SELECT id FROM patients WHERE COALESCE(ssn, 'x') = $1
    → SELECT id FROM patients WHERE COALESCE(tag(ssn), tag('x')) = tag($1)
    """
    whole = Term(node)
    add_part(a, whole, node, scope)
    return whole


def add_part(a: Analysis, whole: Term, node: Node, scope: Scope) -> None:
    """Add the leaves of an expression whose value may be the term's."""
    operand = as_operand(node) or compared_operand(a, node) or arithmetic_operand(a, node)
    if operand is not None:
        whole.add(Leaf(node, operand=operand))
        return
    indexed, inner, casts = derived_under(a, node, scope)
    kind, body = only(inner)
    if indexed is not None:
        indexed = indexed.grouped(a, scope)
        whole.add(Leaf(inner, value=indexed.result, casts=casts, grouping=indexed.grouping, derived=indexed))
        return
    if kind == "TypeCast":
        inner, casts = _own_casts(a, inner, casts, scope)
        kind, body = only(inner)
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = value_of(a, inner, scope)
        if isinstance(value, Clear):
            whole.unprotected = node
            whole.namesake = inner if is_namesake(a, inner, value) else whole.namesake
        else:
            whole.add(Leaf(inner, value=value, casts=casts, grouping=grouping_of(a, scope, value, inner)))
        return
    rule = a.rules.term_parts.get(kind)
    outer, whole.part = whole.part, Part(merges=kind in ("CaseExpr", "CoalesceExpr"), casts=cast_types(casts))
    answered = rule is not None and rule(a, whole, inner, scope)
    outer.parts.append(whole.part)
    whole.part = outer
    if answered:
        whole.casts.extend(casts)
        whole.composed = whole.composed or kind != "SubLink" or bool(casts)
        return
    if rule is None and not isinstance(expression(a, node, scope), Clear):
        raise a.refuse("this use of a protected value is not understood", located(node), hint="Use the column itself.")
    whole.unprotected = node


def _own_casts(a: Analysis, node: Node, casts: tuple[Node, ...], scope: Scope) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under casts of a column to its own type, or of given values to any, and all casts from the outside in."""
    inner, all_casts = node, list(casts)
    while "TypeCast" in inner:
        all_casts.append(inner)
        inner = only(inner)[1]["arg"]
    kind, body = only(inner)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*" or is_whole_row(scope, strings(body["fields"])):
        return node, casts
    value = value_of(a, inner, scope)
    keep(a, inner)
    types = [cast_type(only(cast)[1]) for cast in all_casts]
    if isinstance(value, Protected):
        understood = all(to is not None and changes_nothing(value.type, to) for to in types)
    else:
        understood = isinstance(value, ListColumn) and None not in types
    return (inner, tuple(all_casts)) if understood else (node, casts)


def cast_types(casts: Sequence[Node]) -> tuple[DeclaredType, ...]:
    """Return the types that casts, given from the outside in, convert to, in the order of conversion."""
    types = (cast_type(only(cast)[1]) for cast in reversed(casts))
    return tuple(declared for declared in types if declared is not None)


def _type_of(leaf: Leaf) -> Type:
    """Return the type that a leaf has by itself; None of one that has none, and of a NULLIF."""
    if leaf.operand is not None:
        return leaf.operand.value_type
    if leaf.casts:
        return cast_type(only(leaf.casts[0])[1])
    if isinstance(leaf.value, ListColumn):
        return type_of(leaf.value)
    return leaf.value.type if leaf.value is not None else None
