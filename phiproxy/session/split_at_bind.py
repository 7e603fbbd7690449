"""Statements that the server answers, but not for the values given: a range of too many days, a pattern that no index is about.

They are split for these values: what no index answers waits for the rest. For constants that is found out when the statement is
parsed or bound, for parameters at Bind, where a handler has refused a value; what is answered pays nothing. A prepared statement is
then prepared anew at the server, as its source, of which the client is told nothing; for other values it is what it was again.
"""

from phiproxy.errors import ValueRefused
from phiproxy.plan.refused_inputs import before_refused, first_refused
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import ScriptPlan, StatementPlan
from phiproxy.plan.values_no_index_answers import (
    Unanswered,
    perhaps_unanswered,
    unanswered,
    unanswered_constants,
    unanswered_inputs,
)
from phiproxy.session import slow_work, split_statements, split_write_messages
from phiproxy.session.bound_parameters import converted, counted_formats, formed_by
from phiproxy.session.named_objects import renewed
from phiproxy.session.state import State
from phiproxy.session.statement_effects import stamp_of
from phiproxy.session.statements_and_portals import Prepared
from phiproxy.wire.fields import Bind, encode_bind


def split_query(session: State, text: bytes, plan: ScriptPlan, refused: ValueRefused) -> ScriptPlan:
    """Return the plan of a simple Query one of whose constants is refused, as a split statement; raises ``refused`` without.

    Several statements become a pipeline, in which each is split where its constants ask for it.
    """
    if plan.rendered is None or plan.parts is None or not perhaps_unanswered(refused):
        raise refused
    if len(plan.parts) > 1:
        if session.planner.splitting.engine is None:
            raise refused
        return session.planner.splitting.one_by_one(text, session.view())
    styles = session.styles_for(typed=any(part.typed for part in plan.parts))
    waiting = unanswered(plan.rendered.occurrences, session.planner.ciphers, styles)
    return ScriptPlan(text, identity=False, pipeline=(text,), ahead=_split(session, text, (), waiting, refused))


def split_parse(session: State, plan: StatementPlan, oids: tuple[int, ...], refused: ValueRefused) -> SplitPlan:
    """Return the plan of a Parse one of whose constants is refused, as a split statement; raises ``refused`` without."""
    if isinstance(plan, SplitPlan) or not perhaps_unanswered(refused):
        raise refused
    waiting = unanswered_constants(plan, session.planner.ciphers, session.styles_for(typed=plan.typed))
    return _split(session, plan.text, oids, waiting, refused)


def split_bind(session: State, name: bytes, prepared: Prepared, sent: Bind, refused: ValueRefused) -> Prepared:
    """Let a statement be split one of whose values is refused at Bind; raises ``refused`` where it cannot be, and Later."""
    if prepared.by_sql or not perhaps_unanswered(refused):
        raise refused
    _await_all(session, refused)
    waiting, unsplit = _refused_of(session, prepared.plan, sent), prepared.plan
    if prepared.unsplit is not None and prepared.waiting is not None:
        waiting, unsplit = waiting.both(prepared.waiting), prepared.unsplit
    if waiting == prepared.waiting:
        raise refused
    plan = _split(session, prepared.plan.text, prepared.oids, waiting, refused)
    split_write_messages.check(session, plan)
    if not session.pipeline.silent:
        plan = split_statements.described(session, plan, prepared.oids)
    stamp, read = stamp_of(session), prepared.read
    return renewed(session, name, Prepared(plan, prepared.oids, stamp, unsplit=unsplit, waiting=waiting, read=read))


def unsplit(session: State, name: bytes, prepared: Prepared, sent: Bind) -> Prepared:
    """Let a statement that was split for the values of a Bind be what it was, where the server answers it for these; Later."""
    plan, waiting = prepared.unsplit, prepared.waiting
    if plan is None or isinstance(plan, SplitPlan) or waiting is None or not waiting.numbers:
        return prepared
    try:
        converted(session, plan, sent, formed_by(plan, sent))
    except ValueRefused as refused:
        if perhaps_unanswered(refused):
            return prepared
        raise
    _await_all(session, None)
    return renewed(session, name, Prepared(plan, prepared.oids, stamp_of(session), read=prepared.read))


def in_order(session: State, plan: StatementPlan, sent: Bind, refused: ValueRefused) -> ValueRefused:
    """Return what is said of a Bind of which a value is refused, as PostgreSQL orders it, with what the server reads ahead.

    SELECT id FROM stays WHERE id = $1 AND bed = $2, of which $2 is refused here, and $1 may be by the server
    """
    if perhaps_unanswered(refused) or isinstance(plan, SplitPlan) or session.writing is not None:
        return refused
    if any(value is not None and len(value) > plan.longest for value in sent.values):
        return refused  # it is read by another thread
    formed = formed_by(plan, sent)
    styles = session.styles_for(typed=True) if plan.typed else session.styles.current
    try:
        values = slow_work.read_parameters(session, plan, sent.values, formed.parameters)
    except ValueRefused:
        return refused
    first = first_refused(plan, values, formed.parameters, styles)
    number, refused = first if first is not None else (None, refused)
    ahead = before_refused(plan, sent, formed, number)
    if ahead is not None:
        refused.ahead, refused.fails = encode_bind(ahead), number is not None
    return refused


def _await_all(session: State, refused: ValueRefused | None) -> None:
    """Await the replies to all that was sent: in a failed transaction nothing is prepared."""
    split_statements.await_turn(session)
    if session.status == b"E" and refused is not None:
        raise refused


def _refused_of(session: State, plan: StatementPlan, sent: Bind) -> Unanswered:
    """Return the values of a Bind that no index answers, of a split statement those of its source."""
    values, formats, sealed = sent.values, counted_formats(sent, plan.inputs), plan
    if isinstance(plan, SplitPlan):
        values, formats, sealed = plan.of_source(values), tuple(plan.of_source(formats)), plan.source
    given = slow_work.read_parameters(session, sealed, values, formats)
    styles = session.styles_for(typed=True) if sealed.typed else session.styles.current
    waiting = unanswered_inputs(sealed, session.planner.ciphers, given, formats, styles)
    if isinstance(plan, SplitPlan):
        waiting = waiting._replace(numbers=frozenset(plan.split.source_parameters[n - 1] for n in waiting.numbers))
    return waiting


def _split(session: State, text: bytes, oids: tuple[int, ...], waiting: Unanswered, refused: ValueRefused) -> SplitPlan:
    if waiting == Unanswered():
        raise refused
    return slow_work.plan_waiting(session, text, oids, waiting, refused)
