"""EXPLAIN of a statement; that of a split one is ``sql.split.around``, and ``phiproxy explain`` is ``plan.explanation``."""

from collections.abc import Callable
from functools import partial

from phiproxy.sql.context import Analysis
from phiproxy.sql.text.parse import Node, only


def explain(a: Analysis, body: Node, analyse_query: Callable[[Analysis, str, Node], object]) -> None:
    """Analyse what is explained as it would be by itself: the plan is that of the statement that would be sent.

    EXPLAIN SELECT id FROM patients WHERE ssn = '123-45-6789'
    → EXPLAIN SELECT id FROM patients WHERE tag(ssn) = tag('123-45-6789')
    """
    a.answer.kind = "explain"
    a.answer.generic = _asks_for_generic_plan(body)
    analyse_query(a, *only(body["query"]))
    a.after_outputs = partial(setattr, a.answer, "outputs", None)  # its result are lines of text


def _asks_for_generic_plan(body: Node) -> bool:
    """Tell whether EXPLAIN is to plan without values (manual, EXPLAIN, GENERIC_PLAN). Older servers say that they know no such."""
    given = {o["DefElem"]["defname"]: o["DefElem"].get("arg") for o in body.get("options", ())}
    if "generic_plan" not in given:
        return False
    said = only(given["generic_plan"])[1] if given["generic_plan"] else {"sval": "true"}
    return said.get("ival") == 1 or said.get("sval", "").lower() in ("true", "on")
