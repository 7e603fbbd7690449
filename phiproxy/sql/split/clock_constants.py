"""Constants that mean a moment of the clock, and are read as a date or time: ``born < 'today'``, ``VALUES ('now')``.

The clock is the server's, so a source has them, as casts to the type as which PostgreSQL would read them.
"""

from __future__ import annotations

from phiproxy.policy.signatures import Type
from phiproxy.sql.pg_errors.names_and_signatures import Verdict
from phiproxy.sql.result import Occurrence
from phiproxy.sql.split.remaining import nodes
from phiproxy.sql.split.same_answers import means_clock
from phiproxy.sql.text.parse import Node, children, only, strings
from phiproxy.sql.values.uses import Search, Store
from phiproxy.wire.oids import BUILTIN_TYPES

MOMENTS = frozenset({"date", "time", "timetz", "timestamp", "timestamptz"})
_NAMES = {BUILTIN_TYPES[name].oid: name for name in MOMENTS}
# An operator of these takes two operands of one type, so that a constant is read as the other's.
_COMPARISONS = frozenset({"=", "<>", "<", ">", "<=", ">="})
_KINDS = frozenset(
    {
        "AEXPR_OP", "AEXPR_IN", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", "AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_BETWEEN_SYM",
        "AEXPR_NOT_BETWEEN_SYM",
    }
)  # fmt: skip


def asks_clock(occurrence: Occurrence) -> bool:
    """Tell whether a constant that meets a protected date or time, or is stored as one, means a moment of the clock."""
    use, literal = occurrence.use, occurrence.literal
    return isinstance(use, Store | Search) and literal is not None and is_moment(use.type.underlying.family, literal)


def is_moment(family: str, value: bytes) -> bool:
    """Tell whether a text means a moment of the clock where it is read as this type."""
    return family in MOMENTS and means_clock(value.decode("utf-8", "replace"))


def compared_with_moments(verdict: Verdict, tree: Node) -> dict[int, str]:
    """Return the ids of constants that mean a moment of the clock and are compared with one, with what they are read as."""
    found: dict[int, str] = {}
    for kind, node in nodes({"": tree}, ()):
        if kind != "A_Expr" or node["kind"] not in _KINDS or "lexpr" not in node:
            continue
        if "BETWEEN" not in node["kind"] and strings(node.get("name"))[-1:] != ["="] and not _compares(node):
            continue
        left, right = node["lexpr"], node["rexpr"]
        others = children(right) if "List" in right else [right]
        for constant, other in (*((other, left) for other in others), (left, right)):
            name = _NAMES.get(_base(verdict, other) or 0)
            if name is not None and _is_clock(constant):
                found[id(only(constant)[1])] = name
    return found


def _compares(node: Node) -> bool:
    names = strings(node.get("name"))
    return names[-1] in _COMPARISONS and (len(names) == 1 or names[0] == "pg_catalog")


def _base(verdict: Verdict, node: Node) -> Type:
    kind, body = only(node)
    return None if kind in ("List", "RowExpr", "A_Const") else verdict.signatures.base(verdict.types.get(id(body)))


def _is_clock(node: Node) -> bool:
    said = node.get("A_Const", {}).get("sval")
    return isinstance(said, dict) and means_clock(said.get("sval", ""))
