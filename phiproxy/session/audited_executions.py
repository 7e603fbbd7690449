"""The executions of statements that touch something protected: what of them was opened, and how they ended, is recorded."""

from collections.abc import Mapping, Sequence
from typing import cast

from phiproxy.errors import ColumnMasked, MalformedMessage, PathNeeded, PhiproxyError
from phiproxy.plan.counted_subjects import Collected, Whom, whom
from phiproxy.plan.statement_record import NOTHING, Shape, Touched
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.state import State
from phiproxy.session.state_parts import Executing, Opening
from phiproxy.session.trail import Execution, Phase, not_recorded, rows_of
from phiproxy.wire.fields import bind_names
from phiproxy.wire.messages import decode_execute, decode_parse, decode_query

OK = "00000"
CUT_OFF = "08006"
# Of more values Counter counts faster than a loop does.
FEW = 16
_RUNS = (Kind.EXECUTE, Kind.QUERY)


def check_recordable(session: State) -> None:
    """Raise NotRecorded where what touches something protected cannot be recorded now.

    PathNeeded where it matters and is not known who acts: that is asked of the server with the search path.
    """
    if session.trail is not None and session.trail.failing:
        raise not_recorded()
    if session.watches and session.sure_path is None:
        raise PathNeeded


def opened(session: State, front: Expected) -> None:
    """Count for this execution what has just been opened."""
    assert session.database is not None
    values = session.database.opened
    if values:
        executing = _executing(session, front)
        openings = _without_subjects(session, executing, touched_by(front), values)
        counts = executing.opened
        if len(openings) <= FEW:
            for value in openings:
                counts[value] = counts.get(value, 0) + 1
        else:
            counts.update(openings)
        values.clear()


def _without_subjects(
    session: State, executing: Executing, touched: Touched | None, values: Sequence[Opening | Noted]
) -> Sequence[Opening]:
    """Return what was opened, once it is taken note of whom the rows are about."""
    if session.trail is None or touched is None or not touched.subjects:
        return cast("Sequence[Opening]", values)
    if executing.subjects is None:
        executing.subjects = Collected(session.trail.subjects)
    executing.subjects.add(value for value in values if isinstance(value, tuple))
    return [value for value in values if not isinstance(value, tuple)]


def copied(session: State, front: Expected, noted: Sequence[Noted]) -> None:
    """Take note of whom the rows are about that COPY FROM has sent on."""
    if session.trail is not None and noted:
        executing = _executing(session, front)
        executing.subjects = executing.subjects or Collected(session.trail.subjects)
        executing.subjects.add(noted)


def _about(session: State, front: Expected, part: int, touched: Touched, collected: Collected | None) -> tuple[Whom, ...]:
    """Return what a record says of whom an execution is about."""
    if session.trail is None or not touched.subjects:
        return ()
    collected = collected or Collected(session.trail.subjects)
    collected.add((front.given or {}).get(part, ()))
    return whom(touched.subjects, collected)


def _executing(session: State, front: Expected) -> Executing:
    executing = session.executing
    if executing is None or not executing.is_of(front):
        cut_off(session)
        executing = session.executing = Executing(front, front.part)
    return executing


def ended(session: State, front: Expected, outcome: str = OK, tag: bytes = b"") -> None:
    """Record the execution that the reply belongs to, which has ended; ``tag`` is its command tag."""
    executing = session.executing
    if executing is not None and executing.is_of(front):
        session.executing = None
    else:
        executing = None
    touched = touched_by(front)
    if touched is None and executing is None:
        return
    _record(session, front, front.part, touched or NOTHING, executing, outcome, rows_of(tag))


def shown(session: State, front: Expected, touched: Touched, tag: bytes) -> None:
    """Record a whole execution whose result has just been opened, and nothing of it before: in one piece, on the fast path.

    The server has said who acts, or nothing of it were opened here.
    """
    assert session.database is not None
    assert session.trail is not None
    values, path = session.database.opened, session.search_path
    if len(values) > FEW or session.executing is not None or session.reason is not None or session.ended_reason is not None:
        opened(session, front)
        ended(session, front, tag=tag)
        return
    user = session.user if path.user else None
    if not touched.subjects:
        openings = cast("tuple[Opening, ...]", tuple(values))
        session.unrecorded = session.trail.shown(touched, openings, tag, path.role, user)
    else:
        collected = Collected(session.trail.subjects)
        collected.add([value for value in values if isinstance(value, tuple)])
        openings = tuple([value for value in values if not isinstance(value, tuple)])
        about = _about(session, front, 0, touched, collected)
        session.unrecorded = session.trail.shown(touched, openings, tag, path.role, user, about)
    values.clear()


def source_opened(session: State, front: Expected, tag: bytes) -> None:
    """Record the execution of a split statement when all rows of its source were opened, before anything is computed of them."""
    assert session.trail is not None
    executing, session.executing = session.executing, None
    if front.plan is None:
        return  # of a cursor whose rows were opened when it was declared
    touched = touched_by(front) or NOTHING
    executing = executing if executing is not None and executing.is_of(front) else None
    values: Mapping[Opening, int] = executing.opened if executing is not None else {}
    about = _about(session, front, 0, touched, executing.subjects if executing is not None else None)
    split, reason = rows_of(tag) or 0, _reason(session, front)
    session.unrecorded = session.trail.executed(
        Execution(touched, values, OK, None, role=session.role, user=session.user, split=split, about=about, reason=reason)
    )


def cut_off(session: State) -> None:
    """Record what was opened for an execution of which nothing more comes: it was broken off, or the conversation was."""
    executing, session.executing = session.executing, None
    if executing is not None:
        outcome = CUT_OFF if session.trail is not None else OK
        front, part = executing.front, executing.part
        _record(session, front, part, touched_by(front, part) or NOTHING, executing, outcome, None)


def _record(
    session: State, front: Expected, part: int, touched: Touched, executing: Executing | None, outcome: str, rows: int | None
) -> None:
    values: Mapping[Opening, int] = executing.opened if executing is not None else {}
    if session.trail is None:
        if values and session.database is not None:
            session.database.audit(values)
        return
    number = executing.number if executing is not None else 0
    phase = Phase.ENDS if number else Phase.WHOLE
    who = session.role, session.user
    about = _about(session, front, part, touched, executing.subjects if executing is not None else None)
    session.unrecorded = session.trail.executed(
        Execution(touched, values, outcome, rows, phase, number, *who, about=about, reason=_reason(session, front))
    )


def begins(session: State) -> None:
    """Record the first half of an execution that is not over, of which something may be shown now."""
    assert session.trail is not None
    front = session.pipeline.front()
    if front is None or front.kind not in _RUNS or front.failed or not front.touches:
        return
    touched = touched_by(front)
    if touched is None:
        return
    executing = _executing(session, front)
    if not executing.number:
        executing.number = session.trail.next_number()
        who, about = (session.role, session.user), _about(session, front, front.part, touched, None)
        reason = _reason(session, front)
        begun = Execution(touched, {}, None, None, Phase.BEGINS, executing.number, *who, about=about, reason=reason)
        session.unrecorded = session.trail.executed(begun)


def _reason(session: State, front: Expected) -> str | None:
    """Return the reason under which a message was sent, also where its time has ended before the reply."""
    if session.reason is not None or session.ended_reason is None:
        return session.reason
    reason, last = session.ended_reason
    if front is last or any(sent is last for sent in session.pipeline.queue):
        return reason
    session.ended_reason = None
    return None


def touched_by(front: Expected, part: int | None = None) -> Touched | None:
    """Return what is recorded of the statement that a reply belongs to; None where it touches nothing protected."""
    if front.kind is Kind.QUERY:
        number = front.part if part is None else part
        parts = front.parts or ()
        return parts[number].touched if number < len(parts) and parts[number].touches else None
    if not front.touches:
        return None
    if front.plan is not None:
        touched = front.plan.touched
        return touched if front.stands_for is None else touched.said_of(front.stands_for)
    return Touched(front.texts[1]) if front.texts is not None else NOTHING


def refused(session: State, tag: int, data: bytes, start: int, end: int, error: PhiproxyError) -> None:
    """Record that a message was refused: nobody has understood it, so of its text no word is shown that may be a value.

    The client is told when that is durable, unless it is refused since nothing is.
    """
    if session.trail is None or session.database is None or isinstance(error, MalformedMessage):
        return
    denied = (error.column,) if isinstance(error, ColumnMasked) else ()
    ticket = session.trail.refused(_refused_shape(session, tag, data, start, end), error, session.role, session.user, denied)
    if not session.trail.failing:
        session.unrecorded = ticket


def _refused_shape(session: State, tag: int, data: bytes, start: int, end: int) -> Shape:
    """Return the shape of the client's statement that a message is about; empty where it is about none that is known."""
    names = session.names
    if session.writing is not None:
        return session.planner.refused_shape(session.writing.text)
    try:
        if tag == ord("Q"):
            return session.planner.refused_shape(decode_query(data, start + 5, end))
        if tag == ord("P"):
            return session.planner.refused_shape(decode_parse(data, start + 5, end).query)
        if tag == ord("B"):
            prepared = names.statements.get(bind_names(data, start + 5, end)[1])
            plan = prepared.plan if prepared is not None else None
        else:
            portal = names.portals.get(decode_execute(data, start + 5, end)[0]) if tag == ord("E") else None
            plan = portal.plan if portal is not None else None
    except MalformedMessage:
        plan = None
    return plan.touched.shape if plan is not None else NOTHING.shape
