"""What becomes of a term: tags where it is compared or grouped by, or itself.

CASE, COALESCE and the like pass tags on as they pass values on, so a term is compared by replacing each leaf by its tag. COLLATE is
dropped: under any deterministic collation, values are equal where their bytes are.
"""

from collections.abc import Iterable, Sequence

from phiproxy.errors import CollationMismatch, DatatypeMismatch
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import Grouping, clear_all, equality_slot, located, unsupported
from phiproxy.sql.expressions.leaves import Leaf, Term, cast_types, term
from phiproxy.sql.resolve.protected_values import ListColumn, Protected, Searched
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.text.parse import Node, children, only, strings
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.type_resolution import check_apart
from phiproxy.sql.values.uses import PLAIN, Search
from phiproxy.types.names import sql_name


def as_plain(a: Analysis, whole: Term) -> None:
    """Leave every leaf as it is; refuses a protected one."""
    for leaf in whole.leaves:
        if leaf.operand is not None:
            a.use(leaf.operand, PLAIN)
        elif isinstance(leaf.value, ListColumn):
            leaf.value.users.append(None)
        elif leaf.nullif is not None:
            for side in leaf.nullif:
                as_plain(a, side)
        elif leaf.value is not None:
            raise unsupported(a, leaf.value.column, leaf.node)


def as_tags(a: Analysis, whole: Term, column: ProtectedColumn, slot: Slot, *, stored: bool = False) -> None:
    """Replace every leaf by a tag of ``slot``, to be compared with ``column``; ``stored``: by the generated column, if any.

    SELECT id FROM patients WHERE CASE WHEN active THEN ssn ELSE $1 END = 'x'
    → SELECT id FROM patients WHERE CASE WHEN active THEN tag(ssn) ELSE tag($1) END = tag('x')
    """
    if not a.context.catalog.replaced.isdisjoint(("=", "<>")):
        why = f"{column.label} would be compared by its tags, and an operator = or <> for texts or bytea is not the server's"
        raise a.refuse(why, located(whole.node), hint="Drop that operator, or give it another name.")
    if whole.unprotected is not None:
        raise a.refuse(
            f"{column.label} is protected and can only be compared with values or columns of the same identity",
            located(whole.unprotected),
            hint="Compare it with a text parameter, a text literal, NULL, or ANY or ALL of an array of these.",
        )
    with a.positioned(located(whole.node)):
        whole.part.resolve()
    for leaf in whole.leaves:
        steps = tuple(leaf.part.steps)
        if leaf.operand is not None:
            perhaps = may_be_left_out(whole, leaf)
            a.use(leaf.operand, Search(column, slot, column.type, leaf.operand.array, perhaps=perhaps), OWN, steps)
        elif leaf.nullif is not None:
            for side in leaf.nullif:
                as_tags(a, side, column, slot)
        elif isinstance(leaf.value, ListColumn):
            leaf.value.users.append(Searched(column, slot, leaf.node, leaf.output, leaf.width, (*cast_types(leaf.casts), *steps)))
            leaf.value.casts.extend(leaf.casts)
        else:
            same_identity(a, [column, *whole.columns()], whole.node, compared=True)
            with a.positioned(located(leaf.node)):
                check_apart(leaf.value.type if isinstance(leaf.value, Protected) else column.type, steps)
            own = leaf.value.column.own(slot) if isinstance(leaf.value, Protected) else slot
            _tag_leaf(a, leaf, own, stored=stored)
            a.strip(leaf.casts, column)
    a.strip(whole.casts, column)
    uncollate(a, whole.collations, column)


def may_be_left_out(whole: Term, leaf: Leaf) -> bool:
    """Tell whether a leaf may stay unevaluated: any result of CASE, and all arguments of COALESCE but the first."""
    return whole.choices or leaf is not whole.leaves[0]


def _tag_leaf(a: Analysis, leaf: Leaf, slot: Slot, *, stored: bool) -> None:
    if leaf.derived is not None:
        leaf.derived.tag(a, slot, stored=stored)
    elif leaf.grouping == Grouping.OUTSIDE:
        a.represent(leaf.node, slot, tag=slot)
    else:
        tags = dict(leaf.value.tags) if isinstance(leaf.value, Protected) and leaf.grouping == Grouping.NONE else {}
        a.tag(leaf.node, slot, leaf.output, leaf.width, stored=tags.get(slot.number) if stored else None)


def same_identity(a: Analysis, columns: Sequence[ProtectedColumn], node: Node, *, compared: bool = False) -> ProtectedColumn:
    """Return the first of several columns; refuses columns of two identities. ``compared``: only their tags meet, not values.

    SELECT id FROM patients WHERE ssn = mrn
    → refused 0A000
    """
    column = columns[0]
    for other in columns:
        if other.identity != column.identity and not (compared and other.compared_as == column.compared_as):
            why = f"{column.label} and {other.label} have different identities and cannot be compared or mixed"
            raise a.refuse(why, located(node), hint="Columns that are compared share a domain in the policy.")
        if other.masked != column.masked:
            # What comes of them could be shown as one of them is, and hold values of the other.
            with a.positioned(located(node)):
                (column if column.masked is not None else other).refuse_masked()
    return column


def by_tag(a: Analysis, node: Node, scope: Scope) -> None:
    """Group by the tags of an expression that is not shown.

    SELECT count(DISTINCT (ssn, city)) FROM patients
    → SELECT count(DISTINCT (tag(ssn), city)) FROM patients
    """
    kind, body = only(node)
    if kind == "RowExpr":
        for argument in body.get("args", ()):
            by_tag(a, argument, scope)
        return
    whole = term(a, node, scope)
    columns = list(whole.columns())
    if columns:
        column = same_identity(a, columns, node, compared=True)
        as_tags(a, whole, column, equality_slot(a, column, node))
    else:
        as_plain(a, whole)


def window(a: Analysis, definition: Node, scope: Scope) -> None:
    """Analyse a window definition: partitions are made by tags, and nothing protected is sorted by.

    SELECT count(*) OVER (PARTITION BY ssn) FROM patients
    → SELECT count(*) OVER (PARTITION BY tag(ssn)) FROM patients

    SELECT rank() OVER (ORDER BY ssn) FROM patients
    → refused 0A000
    """
    for node in definition.get("partitionClause", ()):
        by_tag(a, node, scope)
    rest = {key: value for key, value in definition.items() if key != "partitionClause"}
    clear_all(a, list(children(rest)), scope)


def uncollate(a: Analysis, clauses: Sequence[Node], column: ProtectedColumn) -> None:
    """Drop COLLATE clauses, since the server compares tags; refuse collations under which other values are equal.

    SELECT id FROM patients WHERE ssn COLLATE "C" = 'x'
    → SELECT id FROM patients WHERE tag(ssn) = tag('x')

    SELECT id FROM patients WHERE ssn COLLATE "de-x-icu" = 'x'
    → refused 0A000
    """
    for clause in clauses:
        body = only(clause)[1]
        name = strings(body["collname"])[-1]
        if not (column.base or column).type.is_text:
            why = f"collations are not supported by type {sql_name(column.type)}"
            raise a.refuse(why, body, hint="Leave COLLATE out.", error=DatatypeMismatch)
        if name not in a.context.catalog.collations:
            why = f'collation "{name}" is not known, or not deterministic: {column.label} would be compared in another way'
            raise a.refuse(why, body, hint="Leave COLLATE out, or name a collation of the server's own.")
    a.drop_casts(clauses)


def check_collations(a: Analysis, clauses: Iterable[Node]) -> None:
    """Refuse to compare under two collations, as PostgreSQL does.

    SELECT id FROM patients WHERE ssn COLLATE "C" = 'x' COLLATE "POSIX"
    → refused 42P21
    """
    named = {strings(only(clause)[1]["collname"])[-1]: clause for clause in clauses}
    if len(named) > 1:
        shown = " and ".join(f'"{name}"' for name in named)
        last = only(list(named.values())[-1])[1]
        why = f"collation mismatch between explicit collations {shown}"
        raise a.refuse(why, last, hint="Leave COLLATE out.", error=CollationMismatch)
