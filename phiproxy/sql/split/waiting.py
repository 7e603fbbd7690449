"""Values that decide whether tags answer a condition, and do not: a range of too many days, a pattern that no index is about.

What they stand in waits for the rest, as what no index answers whatever the value is.
"""

from __future__ import annotations

from phiproxy.sql.result import Waiting
from phiproxy.sql.text.parse import Node, Statement, messages


def places(statement: Statement, waiting: Waiting) -> frozenset[int]:
    """Return the byte offsets at which such values stand in a statement; none is right too, when they cannot be found."""
    values = [m for m in messages(statement.body) if "ParamRef" in m or "A_Const" in m]
    parameters = [m["ParamRef"] for m in values if "ParamRef" in m and m["ParamRef"].get("number", 0) in waiting.numbers]
    constants = [m["A_Const"] for m in values if "A_Const" in m and _spelled(m["A_Const"]) in waiting.constants]
    return frozenset(node.get("location", 0) for node in (*parameters, *constants))


def _spelled(node: Node) -> bytes | None:
    if "sval" in node:
        return str(node["sval"].get("sval", "")).encode()
    number = node.get("ival", node.get("fval"))
    return None if number is None else str(number.get("ival", number.get("fval", 0))).encode()
