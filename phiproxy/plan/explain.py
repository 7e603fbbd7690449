"""What ``phiproxy explain`` tells: the same analysis as a session's, in words. Values of literals are never shown."""

from __future__ import annotations

from dataclasses import dataclass

from phiproxy.errors import PhiproxyError
from phiproxy.plan.cache import Planner, View
from phiproxy.plan.statement import ScriptPlan, StatementPlan
from phiproxy.sql.finish import null_marker
from phiproxy.sql.meaning import Absent, Nullness, Occurrence, Plain, Store, Use, of_elements

# What an application's session starts with, unless its role or database says otherwise.
DEFAULT_PATH = ("pg_catalog", "public")


@dataclass(frozen=True, slots=True)
class Explanation:
    """``answer`` is forwarded, rewritten or refused; ``parameters`` and ``columns`` are (what, use) in order."""

    answer: str
    server: str
    parameters: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    sqlstate: str = ""
    message: str = ""
    hint: str = ""
    position: int | None = None


def explain(planner: Planner, text: bytes, database: str, path: tuple[str, ...] = DEFAULT_PATH) -> Explanation:
    """Explain one statement (as a Parse), or a string of several (as a simple Query)."""
    view = View(path, database, catalog_fresh=True)
    try:
        plan = planner.statement(text, (), view)
    except PhiproxyError as error:
        if error.sqlstate == "42601" and "multiple commands" in error.message:
            return _script(planner, text, view)
        return _refusal(error)
    return _statement(plan)


def _refusal(error: PhiproxyError) -> Explanation:
    return Explanation(
        "refused", "", sqlstate=error.sqlstate, message=error.public_text, hint=error.hint or "", position=error.position
    )


def _script(planner: Planner, text: bytes, view: View) -> Explanation:
    try:
        plan: ScriptPlan = planner.script(text, view)
    except PhiproxyError as error:
        return _refusal(error)
    if plan.rendered is None:
        return Explanation("forwarded", text.decode())
    server = plan.rendered.fill(lambda _i, o: _shown(o))
    uses = tuple((f"literal at {o.start + 1}", use_text(o.use)) for o in plan.rendered.occurrences if o.literal is not None)
    return Explanation("rewritten", server.decode(), uses)


def _shown(occurrence: Occurrence) -> bytes:
    if occurrence.literal is None:
        return null_marker(occurrence.use)
    return b"'{\xe2\x80\xa6}'::bytea[]" if of_elements(occurrence.use) else b"'\\x\xe2\x80\xa6'::bytea"


def _statement(plan: StatementPlan) -> Explanation:
    columns: tuple[str, ...] = ()
    if plan.columns is not None:
        columns = tuple("unprotected" if r is None else f"opened: {r.column.label} as {r.type.name}" for r in plan.columns.reveals)
    answer = "forwarded" if plan.identity and plan.sql == plan.text else "rewritten"
    parameters = []
    for number, (use, source, literal) in enumerate(plan.outputs, start=1):
        what = "a literal" if literal is not None else f"${source + 1}"
        parameters.append((f"${number} from {what}", use_text(use)))
    return Explanation(answer, plan.sql.decode(), tuple(parameters), columns)


def use_text(use: Use) -> str:
    """Say what an occurrence is used for."""
    if isinstance(use, Plain):
        return "sent as it is"
    if isinstance(use, Absent):
        return "not sent, since it does not occur"
    if isinstance(use, Nullness):
        return "tested for NULL only"
    if isinstance(use, Store):
        return f"{'each element ' if use.elements else ''}sealed for {use.column.label}"
    what = "tags of its elements" if use.elements else "tag"
    return f"{what} of {use.column.label} ({use.slot.expression.replace('@', use.column.name)})"
