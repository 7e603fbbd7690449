"""What takes longer than other sessions may wait: done apart from the loop, or in slices, while this session alone waits for it.

A handler asks for the outcome of some work. Where there is none yet WorkNeeded leaves the message where it is; whoever drives the
session does the work, and the message is taken again, with the outcome. What was done belongs to that one message.

Plans are made by another thread, since they are made of texts and catalogues and of nothing that others change. What needs keys is
done on the loop, in slices: a keyring is not for several threads. Of a long value the loop takes the keys, and the thread does what
is to be done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from phiproxy.errors import LongWorkNeeded, WireError
from phiproxy.longvalues import LONG_VALUE
from phiproxy.plan.cache import Analysed, View
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.convert import MANY, Steps
from phiproxy.plan.statement import ScriptPlan, StatementPlan, spell_steps
from phiproxy.types.styles import Styles
from phiproxy.wire.fields import Bind, RowsFunction, decode_bind

if TYPE_CHECKING:
    from phiproxy.session.state import State

# A shorter text is planned within some 20 milliseconds, whatever it says.
LONG_TEXT = 4 * 1024
# Of a longer message each look at it, and each copy, is felt: the hot path leaves it to the handlers.
MUCH = 256 * 1024

Edits = tuple[tuple[int, int, int], ...]


class Work:
    """One piece of work: ``apart`` is for another thread, ``steps`` to be taken one after the other on the loop.

    Where it is ``refusable`` the message that it is done for can be refused instead.
    """

    __slots__ = ("_error", "_key", "_result", "apart", "refusable", "steps")

    def __init__(
        self,
        key: tuple[object, ...],
        *,
        apart: Callable[[], object] | None = None,
        steps: Callable[[], Steps[object]] | None = None,
        refusable: bool = True,
    ) -> None:
        self._key = key
        self.apart = apart
        self.steps = steps
        self.refusable = refusable
        self._result: object = None
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<Work: {self._key[0]}>"

    def done(self, result: object) -> None:
        """Take what it has come to."""
        self._result = result

    def failed(self, error: Exception) -> None:
        """Take what it has raised."""
        self._error = error

    def answers(self, key: tuple[object, ...]) -> bool:
        """Tell whether this is the work that is asked for."""
        return self._key == key

    def outcome(self) -> object:
        """Return what it has come to, or raise what it has raised."""
        if self._error is not None:
            raise self._error
        return self._result


class WorkNeeded(Exception):
    """Something takes longer than other sessions may wait: do ``work``, and take the same frame again."""

    def __init__(self, work: Work) -> None:
        super().__init__("work must be done")
        self.work = work


def _done(session: State, work: Work, key: tuple[object, ...]) -> object:
    """Return the outcome of work that was done for this message; WorkNeeded where it was not, or is to be done again."""
    for known in session.worked:
        if known.answers(key):
            try:
                return known.outcome()
            except Exception:
                # A need that is met, or a refusal: neither is the outcome of what is asked the next time.
                session.worked.remove(known)
                raise
    raise WorkNeeded(work)


def _said(view: View) -> tuple[object, ...]:
    """Return what a plan hangs on of a view. That the catalogue was read again makes no other plan of the same one."""
    return view.path, view.database, view.created, view.utf8, view.path_set, view.styles


def plan_script(session: State, text: bytes) -> ScriptPlan:
    """Return the plan of a simple Query; raises what ``Planner.script`` raises, and WorkNeeded."""
    planner, view = session.planner, session.view()
    if len(text) < LONG_TEXT:
        return planner.script(text, view)
    known = planner.known_script(text, view)
    if known is not None:
        return known
    key = ("script", planner, text, *_said(view))
    found = _done(session, Work(key, apart=lambda: planner.script(text, view)), key)
    assert isinstance(found, ScriptPlan)
    return found


def plan_statement(session: State, text: bytes, oids: tuple[int, ...]) -> StatementPlan:
    """Return the plan of a Parse; raises what ``Planner.statement`` raises, and WorkNeeded."""
    planner, view = session.planner, session.view()
    if len(text) < LONG_TEXT:
        return planner.statement(text, oids, view)
    known = planner.known_statement(text, oids, view)
    if known is not None:
        return known
    key = ("statement", planner, text, oids, *_said(view))
    found = _done(session, Work(key, apart=lambda: planner.analysed(text, oids, view)), key)
    return planner.finished(text, cast("Analysed", found), oids, view)


def render(session: State, plan: ScriptPlan, ciphers: Ciphers, styles: Styles) -> tuple[bytes, Edits]:
    """Return the server's text of a simple Query, and the edits; raises what ``ScriptPlan.render`` raises, and WorkNeeded."""
    if plan.rendered is None or (len(plan.rendered.occurrences) < MANY and len(plan.text) <= LONG_VALUE):
        text, edits = plan.render(ciphers, styles)
        return text, tuple(edits)
    rendered, key = plan.rendered, ("render", plan.rendered, ciphers, styles)
    return _spelled(_done(session, Work(key, steps=lambda: spell_steps(rendered, ciphers, styles)), key))


def spell(session: State, plan: StatementPlan, ciphers: Ciphers, styles: Styles) -> tuple[bytes, Edits]:
    """Return the text to prepare, and the edits; raises what ``StatementPlan.spell`` raises, and WorkNeeded."""
    if plan.inline is None or (len(plan.inline.occurrences) < MANY and len(plan.text) <= LONG_VALUE):
        return plan.spell(ciphers, styles)
    rendered, key = plan.inline, ("render", plan.inline, ciphers, styles)
    return _spelled(_done(session, Work(key, steps=lambda: spell_steps(rendered, ciphers, styles)), key))


def _spelled(found: object) -> tuple[bytes, Edits]:
    assert isinstance(found, tuple)
    text, edits = found
    return text, tuple(edits)


def bound(session: State, data: bytes, pos: int, end: int) -> Bind:
    """Return what a Bind says; raises what ``decode_bind`` raises, and WorkNeeded."""
    if end - pos <= LONG_VALUE:
        return decode_bind(data, pos, end)
    key = ("bind",)
    found = _done(session, Work(key, apart=partial(decode_bind, data, pos, end)), key)
    assert isinstance(found, Bind)
    return found


def open_row(session: State, ciphers: Ciphers, rows: RowsFunction, data: bytes, begin: int, end: int) -> list[bytes]:
    """Return what is shown of one DataRow; raises what ``rows`` raises, and WorkNeeded."""
    outcomes: list[object] = []
    while True:
        shown: list[bytes] = []
        needed: Work | None = None
        key = ("row", len(outcomes))
        with ciphers.long_work.given(outcomes):
            try:
                stop = rows(data, begin, end, shown)
            except LongWorkNeeded as long:
                needed = Work(key, apart=long.work, refusable=False)
        if needed is None:
            break
        outcomes.append(_done(session, needed, key))
    if stop != end:
        raise WireError("a row is shorter than its fields")
    if outcomes:
        session.worked = []
    return shown


def parameters(
    session: State, plan: StatementPlan, ciphers: Ciphers, values: Sequence[bytes | None], formats: Sequence[int], styles: Styles
) -> list[bytes | None]:
    """Return the server's parameters; raises what ``StatementPlan.parameters`` raises, and WorkNeeded."""
    if len(plan.outputs) < MANY and not any(value is not None and len(value) > LONG_VALUE for value in values):
        return plan.parameters(ciphers, values, formats, styles)
    key = ("parameters", id(plan), ciphers, values, formats, styles)
    found = _done(session, Work(key, steps=lambda: plan.parameter_steps(ciphers, values, formats, styles)), key)
    assert isinstance(found, list)
    return found
