"""The tables of rules: which function understands which node. Filled by the modules that hold the functions.

A node type that is in no table is not understood: in an expression it may hold nothing protected, in FROM or as a query it
is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.parse import Node
from phiproxy.sql.scope import Joined, Output, Scope, Value

ExpressionRule = Callable[[Analysis, Node, Node, Scope], Value]
FromRule = Callable[[Analysis, Node, Scope, Joined], Joined]
QueryRule = Callable[[Analysis, Node, Scope], list[Output]]

EXPRESSIONS: dict[str, ExpressionRule] = {}
FROM_ITEMS: dict[str, FromRule] = {}
QUERIES: dict[str, QueryRule] = {}


def query(a: Analysis, kind: str, body: Node, outer: Scope) -> list[Output]:
    """Analyse SELECT, or INSERT, UPDATE or DELETE with its RETURNING, inside ``outer``; refuses any other statement."""
    rule = QUERIES.get(kind)
    if rule is None:
        name = kind.removesuffix("Stmt").upper()
        raise a.refuse(
            f"{name} of a protected table is not understood", body, hint="Write SELECT, INSERT, UPDATE, DELETE or MERGE."
        )
    return rule(a, body, outer)
