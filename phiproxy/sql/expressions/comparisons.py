"""Comparisons of terms for equality: by tags where one is protected, or meets a protected column elsewhere.

``citext = text``: PostgreSQL compares both as text, so case counts; an index on ``column::text`` answers. Without such an index, or
where an operand may be something else than text, the comparison is refused.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from phiproxy.errors import StatementRefused
from phiproxy.frozen import dataclass
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import check_namesake, spelling
from phiproxy.sql.expressions.error_positions import at_operator
from phiproxy.sql.expressions.expression import Grouping, check_operators, equality_slot, located
from phiproxy.sql.expressions.index_expressions import Derived
from phiproxy.sql.expressions.leaves import Leaf, Term
from phiproxy.sql.expressions.terms import as_plain, as_tags, check_collations, same_identity
from phiproxy.sql.resolve.protected_values import ListColumn, Protected
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import Operand
from phiproxy.sql.values.type_resolution import Part, compare_listed, compare_pair, compare_with_column
from phiproxy.types.equality_operators import Equality


@dataclass(frozen=True, slots=True)
class Comparison:
    """Terms that are compared: the first with each of the others.

    ``listed``: the others are converted to one type first, as in a list of IN. ``element``: they are the elements of an ARRAY[…],
    which is cast to arrays of these types.
    """

    node: Node
    terms: tuple[Term, ...]
    listed: bool = False
    element: tuple[DeclaredType, ...] | None = None

    def operands(self) -> Iterator[Operand | ListColumn]:
        """Yield the values that are compared."""
        for one in self.terms:
            yield from _operands(one)

    def as_plain(self, a: Analysis) -> None:
        """Compare the values as they are, since none meets a protected column elsewhere."""
        for whole in self.terms:
            as_plain(a, whole)

    def as_tags(self, a: Analysis, column: ProtectedColumn) -> None:
        """Compare the values by tags, since one of them meets ``column`` elsewhere."""
        compare_tags(a, self, column)

    def resolve(self, declared: DeclaredType) -> None:
        """Convert values to the types as which they are compared with a ``declared`` column; refusals have no position yet."""
        first, *others = (one.part for one in self.terms)
        equalities: list[Equality] = []
        if self.element is None:
            types = [other.resolve() for other in others]
            if first.resolve() is None and None in types and any(t is not None and not t.is_text for t in types):
                raise _of_several_types()
            listed = [one.part for one in self.terms[1:] if self.listed and _is_listed(one)]
            if len(listed) > 1:
                compare_listed(first, listed)
            equalities = [compare_pair(first, other) for other in others]
        elif others:
            array = Part(parts=others, merges=not self.element, casts=self.element)
            array.resolve()
            equalities = [compare_pair(first, other) for other in others]
        points = list(dict.fromkeys(equality.at for equality in equalities))
        compare_with_column(declared, others, [equality.at for equality in equalities])
        if any(leaf.operand is not None or isinstance(leaf.value, ListColumn) for leaf in self.terms[0].leaves):
            if len(points) > 1:
                raise _of_several_types()
            compare_with_column(declared, [first] * len(points), points)


def _operands(whole: Term) -> Iterator[Operand | ListColumn]:
    for leaf in whole.leaves:
        if leaf.operand is not None:
            yield leaf.operand
        for side in leaf.nullif or ():
            yield from _operands(side)
        if isinstance(leaf.value, ListColumn):
            yield leaf.value


def _of_several_types() -> StatementRefused:
    why = "a value is compared with several of different types beside a protected column"
    return StatementRefused(why, hint="Write value = column OR value = other.")


def _is_listed(whole: Term) -> bool:
    """Tell whether an item of IN has no column of this query in it (contain_vars_of_level)."""
    return whole.unprotected is None and all(leaf.operand is not None or "SubLink" in leaf.node for leaf in whole.leaves)


def compare(
    a: Analysis,
    node: Node,
    terms: Sequence[Term],
    *,
    apart: bool = False,
    listed: bool = False,
    element: tuple[DeclaredType, ...] | None = None,
) -> bool:
    """Compare terms for equality, and tell whether that is done by tags, since one of them is protected.

    ``apart``: they are compared one after the other. ``listed``, ``element``: see Comparison.

        SELECT id FROM patients WHERE COALESCE(ssn, $1) = 'x'
        → SELECT id FROM patients WHERE COALESCE(tag(ssn), tag($1)) = tag('x')

        SELECT id FROM patients WHERE $1 = 'x' AND ssn = $1
        → SELECT id FROM patients WHERE tag($1) = tag('x') AND tag(ssn) = tag($1)
    """
    comparison = Comparison(node, tuple(as_texts(a, terms)), listed, element)
    columns = [column for one in comparison.terms for column in one.columns()]
    if columns:
        column = same_identity(a, columns, node, compared=True)
        compare_tags(a, comparison, column, apart=apart)
        return True
    terms = comparison.terms
    namesake = next((one.namesake for one in terms if one.namesake is not None), None)
    if namesake is not None:
        check_namesake(a, namesake, (leaf.operand or leaf.value for one in terms for leaf in one.leaves))
    if all(one.unprotected is None for one in terms):
        a.comparisons.append(comparison)
        return False
    for one in terms:
        as_plain(a, one)
    return False


def compare_tags(a: Analysis, comparison: Comparison, column: ProtectedColumn, *, apart: bool = False) -> None:
    """Compare terms by tags of a column that is among them, or that one of their values meets elsewhere.

    SELECT id FROM patients WHERE ssn IN ('x', $1)
    → SELECT id FROM patients WHERE tag(ssn) IN (tag('x'), tag($1))
    """
    node, terms = comparison.node, comparison.terms
    check_collations(a, [clause for one in terms for clause in one.collations])
    leaves = [leaf for one in terms for leaf in one.leaves]
    owner = next((leaf.node for leaf in leaves if leaf.nullif or isinstance(leaf.value, Protected)), node)
    slot = equality_slot(a, column, owner)
    check_operators(a, column, node)
    if all(one.unprotected is None for one in terms):
        with a.positioned(located(node)), at_operator(a, node, terms[-1].node):
            comparison.resolve(column.type)
    with nullcontext() if apart else a.together():
        for one in terms:
            if not _stays_null(node, one):
                with at_operator(a, node, one.node):
                    as_tags(a, one, column, slot, stored=True)


def _stays_null(node: Node, whole: Term) -> bool:
    """Tell whether an operand is written NULL beside ``=``, which transform_null_equals may turn into IS NULL: it stays."""
    kind, body = only(node)
    operator = kind == "A_Expr" and body["kind"] == "AEXPR_OP" and strings(body["name"]) == ["="]
    return operator and "A_Const" in whole.node and "isnull" in whole.node["A_Const"]


_AS_TEXT = "@::text"


def as_texts(a: Analysis, terms: Sequence[Term]) -> Sequence[Term]:
    """Return the compared terms, with a citext column as its text where all others are text.

    SELECT id FROM diaries WHERE nick = 'x'::text
    → SELECT id FROM diaries WHERE tag1(nick) = tag1('x')

    SELECT id FROM diaries WHERE nick = 'x'
    → SELECT id FROM diaries WHERE tag(nick) = tag('x')
    """
    columns = [one for one in terms if next(one.columns(), None) is not None]
    others = [one for one in terms if one is not columns[0]] if columns else []
    operands = [leaf.operand.value_type if leaf.operand is not None else None for one in others for leaf in one.leaves]
    texts = all(declared is not None and declared.is_text for declared in operands)
    if (
        len(columns) != 1
        or columns[0].single is None
        or not texts
        or any(one.unprotected is not None or not one.leaves for one in others)
    ):
        return terms
    text_leaf = _as_text(a, columns[0].single)
    return (
        terms
        if text_leaf is None
        else [dataclasses.replace(m, leaves=[text_leaf], part=Part()) if m is columns[0] else m for m in terms]
    )


def _as_text(a: Analysis, leaf: Leaf) -> Leaf | None:
    """Return a citext column as the expression ``column::text``, where an index has that, else None."""
    value = leaf.value
    if not isinstance(value, Protected) or value.type.underlying.family != "citext" or value.column.base is not None:
        return None
    plain = "ColumnRef" in leaf.node and leaf.derived is None and leaf.grouping == Grouping.NONE and not leaf.casts
    text_column = value.column.derived(_AS_TEXT, builtin("text"))
    if not plain or spelling(a, leaf.node) or text_column.slot_for("@") is None:
        return None
    shown = Protected(text_column, text_column.type, cast=True)
    return dataclasses.replace(leaf, value=shown, derived=Derived(leaf.node, leaf.node, value, shown, total=True, spelled=()))
