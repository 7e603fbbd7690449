"""What comes of a split statement: the rows of its source go to the engine, opened, and what the engine says to the client."""

from phiproxy.errors import (
    KeyNeeded,
    LongWorkNeeded,
    NotAuthentic,
    PhiproxyError,
    SealError,
    StatementFailed,
    StatementRefused,
    ValueRefused,
    WireError,
)
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.split_write_parameters import whole_messages
from phiproxy.session import audited_executions, split_explain, split_write_messages
from phiproxy.session.needs import NeedEngine
from phiproxy.session.opened_rows import opener_of
from phiproxy.session.pipeline import Expected, Kind
from phiproxy.session.slow_work import open_row
from phiproxy.session.split_execution import Computing
from phiproxy.session.split_explain import Plan
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import REFUSED_BIND
from phiproxy.wire.messages import decode_row_description, encode_row_description

_ROW, _COMPLETE, _NOTICE = ord("D"), ord("C"), ord("N")
_SUSPENDED = b"s\0\0\0\x04"
# So many bytes of rows are kept until all have come, of a source that locks them.
MAX_KEPT = 1024 * 1024
# Between the server's plan of a source and the engine's of a rest.
EXPLAINED = split_explain.row(split_explain.COMPUTED)


def source_rows(session: State, front: Expected, data: bytes, start: int, end: int) -> int:
    """Open a run of the source's rows for the engine; KeyNeeded, WorkNeeded leave what is not opened there."""
    computing, columns = _computing(session), front.columns
    behind = session.server_frames.run_end(_ROW)
    if computing.failed is not None:
        return behind
    if computing.plan.only_planned:
        if computing.one_plan:
            computing.kept.append(data[start:behind])
        else:
            session.to_client.append(data[start:behind])
        return behind
    if columns is None:
        computing.rows.append(data[start:behind])
        return behind
    assert session.database is not None
    openings = session.database.opened
    openings.clear()
    try:
        return _opened(session, front, columns, data, start, behind)
    except (SealError, NotAuthentic, ValueRefused) as error:
        session.counters.open_failures += not isinstance(error, ValueRefused)
        fails(session, error)
        return behind
    finally:
        if openings:
            audited_executions.opened(session, front)


def _opened(session: State, front: Expected, columns: Columns, data: bytes, start: int, behind: int) -> int:
    rows, opened = opener_of(session, front, columns), list[bytes]()
    assert front.ciphers is not None
    computing, frames = _computing(session), session.server_frames
    if not session.worked and behind - start <= columns.longest:
        try:
            if rows(data, start, behind, opened) != behind:
                raise WireError("a row is shorter than its fields")
        except (PhiproxyError, KeyNeeded, LongWorkNeeded):
            opened.clear()  # one by one: what is opened before that one is not lost
        else:
            computing.rows += opened
            return behind
    for begin, end in frames.run(_ROW):
        frames.pos = begin
        computing.rows += open_row(session, front.ciphers, rows, data, begin, end)
    return behind


def source_ended(session: State, tag: bytes) -> None:
    """CommandComplete of the source: the engine has all rows, or is given them now."""
    session.pipeline.queue.popleft()
    computing = _computing(session)
    computing.complete = True
    if computing.plan.split.kind == "write":
        computing.tag = tag
    if session.held is not None:
        try:
            if not split_write_messages.all_written(session, tag[5:-1]):
                given_up(session)
        except StatementRefused as error:
            session.blocked = True
            fails(session, error)


def need(session: State) -> NeedEngine | None:
    """Return what the engine is to do now, of what has come from the server."""
    computing = session.computing
    if computing is None or computing.asked:
        return None
    if computing.failed is not None:
        if computing.complete:
            failed(session, computing.failed)
        return None
    if not (computing.rows or computing.complete) or _waits_for_rows(computing):
        return None
    rows, computing.rows = computing.rows, []
    settings, computing.settings = computing.settings, None
    computing.asked = True
    enter, computing.enter = computing.enter, None
    return NeedEngine(computing.computation, settings, rows, computing.results if computing.complete else None, enter)


def _waits_for_rows(computing: Computing) -> bool:
    """Tell whether a session of the engine is asked for later: a source that locks rows may wait for sessions that wait for one."""
    return computing.enter is not None and not computing.complete and sum(map(len, computing.rows)) < MAX_KEPT


def entered(session: State, computation: object) -> None:
    """Take what stands for the session of the engine."""
    _computing(session).computation = computation


def computed(session: State, piece: bytes) -> None:
    """Show messages of the engine's; StatementRefused where the result is not as it was described."""
    computing = _computing(session)
    kept = computing.plan.split.write is not None or computing.one_plan
    piece = without_notices(session, piece, all_of_them=kept) if kept or not computing.described else piece
    if not computing.described and computing.plan.split.write is None and piece:
        computing.described = True
        piece = _undescribed(session, computing, piece)
    if kept:
        computing.kept.append(piece)
        computing.last = piece[-len(_SUSPENDED) :]
        return
    if piece:
        session.to_client.append(_tagged(piece, computing.tag) if computing.tag else piece)
        computing.last = piece[-len(_SUSPENDED) :]


def notices_apart(messages: bytes) -> tuple[bytes, bytes]:
    """Return the messages that are no notices, and the notices."""
    parts = [(tag == _NOTICE, messages[start:end]) for tag, start, end in whole_messages(messages)]
    return b"".join(part for notice, part in parts if not notice), b"".join(part for notice, part in parts if notice)


def without_names(notices: bytes) -> bytes:
    """Return notices without those about names that are too long, of which the server tells (``split_statements``)."""
    parts = (notices[start:end] for _, start, end in whole_messages(notices))
    return b"".join(part for part in parts if b"\0C42622\0" not in part)


def without_notices(session: State, piece: bytes, *, all_of_them: bool) -> bytes:
    """Show the notices of the engine with which messages begin, or all of them, and return the others."""
    others, at = [], 0
    for tag, start, end in whole_messages(piece):
        if tag == _NOTICE:
            session.to_client.append(without_names(piece[start:end]))
        elif all_of_them:
            others.append(piece[start:end])
        else:
            return piece[start:]
        at = end
    return b"".join(others) if others else piece[at:]


def _undescribed(session: State, computing: Computing, piece: bytes) -> bytes:
    """Return what comes behind the description of the result, which a simple Query is shown."""
    if piece[:1] not in (b"T", b"n"):
        return piece
    around = computing.plan.split.around
    end = 1 + int.from_bytes(piece[1:5], "big")
    if piece[:1] == b"n":
        return piece[end:]
    if around == "explain":
        return piece[end:] if computing.one_plan else EXPLAINED + piece[end:]
    fields = decode_row_description(piece, 5, end)
    description = next(iter(computing.plan.descriptions.values()), None)
    if session.writing is not None and not session.writing.was_silent:
        return piece[end:]  # the client has had it described
    shown = computing.plan.placed_columns(fields)
    if session.pipeline.silent:
        of_whole = session.writing.shown if session.writing is not None and session.writing.kept else b""
        session.to_client.append(of_whole or encode_row_description(shown))
    elif description is not None and [f[3:6] for f in shown] != [f[3:6] for f in description.planned]:
        raise StatementRefused("cached plan must not change result type", hint="Prepare the statement again.")
    return piece[end:]


def _tagged(piece: bytes, tag: bytes) -> bytes:
    """Return messages with this CommandComplete in the place of the engine's: of a write the rows of RETURNING are computed."""
    return b"".join(tag if kind == _COMPLETE else piece[start:end] for kind, start, end in whole_messages(piece))


def resumed(session: State, error: PhiproxyError | None) -> None:
    """Go on when the engine was given rows, or has said all, or a key is there; or with why not."""
    computing = _computing(session)
    if not computing.asked:
        if error is not None:
            fails(session, error)
        return
    computing.asked = False
    if error is not None:
        fails(session, error)
    elif computing.complete and computing.failed is None:
        _ended(session, computing)


def fails(session: State, error: PhiproxyError) -> None:
    """Note that nothing of the split statement will be shown, or nothing more."""
    computing = _computing(session)
    if isinstance(error, StatementFailed):
        error.notices = without_names(error.notices)
        error = computing.plan.placed(error)
    computing.failed = error
    computing.rows = []


def failed(session: State, error: PhiproxyError) -> None:
    """Have the server's transaction fail with what has failed elsewhere; the client is told when the server says so."""
    given_up(session)
    session.to_server.append(REFUSED_BIND)
    session.pipeline.push(Expected(Kind.BIND, error, "26000"))
    session.pipeline.skipping = True
    session.counters.refused += 1


def counted(session: State, tag: bytes) -> bool:
    """Tell whether a write of which it is known how many rows it writes is to be told of; else what becomes of it is on its way."""
    try:
        return split_write_messages.all_written(session, tag)
    except StatementRefused as error:
        failed(session, error)
        return False


def given_up(session: State) -> None:
    """Go on without the split statement that was executed: the server has said why."""
    computing, session.computing = session.computing, None
    session.blocked = False
    if computing is not None:
        computing.portal.computation = None
        session.released.append(computing.computation)


def _ended(session: State, computing: Computing) -> None:
    session.computing, session.blocked = None, False
    portal = computing.portal
    if computing.plan.split.write is None and computing.one_plan:
        _show_plans(session, computing)
    if computing.plan.split.write is not None:
        try:
            split_write_messages.begin(session, computing)
        except StatementRefused as error:
            session.released.append(computing.computation)
            failed(session, error)
            return
    if computing.last == _SUSPENDED or computing.plan.split.around == "cursor":
        if portal.computation is None:
            session.suspended.append(portal)
        portal.computation = computing.computation
    else:
        portal.computation, portal.exhausted = None, True
        session.released.append(computing.computation)


def _show_plans(session: State, computing: Computing) -> None:
    """Show the plans of all parts of an EXPLAIN."""
    messages, split = b"".join(computing.kept), computing.plan.split
    end = split_explain.ends_at(messages)
    lines = split_explain.lines_of(messages[:end])
    if split.analyzed is not None:
        plans = [*computing.plans, Plan(split_explain.COMPUTED, lines)]
    else:
        plans = [Plan(b"", [line]) for line in lines]
    if split.analyzed and session.pipeline.silent and (session.writing is None or session.writing.was_silent):
        session.to_client.append(split_explain.description(split.explained_as, ()))
    session.to_client += (split_explain.shown(plans, split.explained_as), messages[end:])


def release_dropped(session: State) -> None:
    """Release the computations of portals that are no more."""
    live = {id(portal) for portal in session.names.portals.values()}
    for portal in session.suspended:
        if id(portal) not in live and portal.computation is not None:
            session.released.append(portal.computation)
            portal.computation = None
    session.suspended = [portal for portal in session.suspended if portal.computation is not None]


def _computing(session: State) -> Computing:
    assert session.computing is not None
    return session.computing
