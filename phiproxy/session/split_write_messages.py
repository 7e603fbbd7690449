"""The write of a split statement, once the engine has computed what it stores: it is taken as if the client had sent it then.

Its messages are put before all that the client has sent and that is not taken yet. So the handlers plan it, seal its parameters,
fetch keys and read its replies as those of any statement, in the same transaction, since no Sync came in between. Of its replies
the client sees only the result::

    engine   … one row of parameters                                                │
    client                            Close Close Parse Bind Execute Close (put in) │ Sync …

Of ON CONFLICT DO UPDATE the engine says how many rows will be written. If they are fewer, another session has inserted a row behind
the source: nothing was computed for it, so the write has only locked it. Nothing behind the write is sent before that is known.
Where nothing was written at all, the split statement is executed again, and sees the row; else the statement fails with 40001.
"""

from struct import Struct

from phiproxy.errors import PhiproxyError, StatementRefused, WireError
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.split_write_parameters import check_copied, check_stored, only_row, parameters_of
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.session import split_explain
from phiproxy.session.client_encoding import readable, writable
from phiproxy.session.pipeline import Expected, Kind, Placing, in_turn
from phiproxy.session.split_execution import Computing, Counted, Writing
from phiproxy.session.split_explain import Explained, Plan
from phiproxy.session.state import State
from phiproxy.session.statements_and_portals import Given
from phiproxy.session.substitutes_and_questions import END_OF_QUERY, FLUSH, SECOND_NAME, WRITE_NAME
from phiproxy.wire.fields import Bind, encode_bind
from phiproxy.wire.messages import encode_parse, encode_row_description, message

_COUNT = Struct("!q").unpack


class InsertedMeanwhile(StatementRefused, sqlstate="40001", anchor="err-engine"):
    """Another session has inserted a row that is in conflict, after the rows were looked for (40001)."""


class EndedMeanwhile(StatementRefused, sqlstate="42501", anchor="err-masked"):
    """The time of a reason, or of a token, has ended after the rows of a split write were asked for (42501)."""


def begin(session: State, computing: Computing) -> None:
    """Put the messages of the write before the client's next ones.

    Its portal takes the place of the source's, under the client's name, so that what the client does with it goes on there.
    StatementRefused where it may not be run.
    """
    plan, given = computing.plan, computing.portal.given
    write = plan.split.write
    assert write is not None
    assert given is not None
    description = next(iter(plan.descriptions.values()), None)
    oids = description.parameters if description is not None else computing.portal.oids
    told, before = b"".join(computing.kept), session.writing
    explained = None
    if plan.split.analyzed is not None:
        end = split_explain.ends_at(told)
        computed = Plan(split_explain.COMPUTED, split_explain.lines_of(told[:end]))
        explained, told = Explained((*computing.plans, computed), plan.split.explained_as), told[end:]
    row = only_row(told)
    sent = parameters_of(write, row, oids, given.values, given.formats)
    portal = writable(session, next(name for name, known in session.names.portals.items() if known is computing.portal))
    counted = _counted(session, computing, portal, row) if write.expected else None
    silent = before.was_silent if before is not None else session.pipeline.silent
    describes = silent and not write.copied and (before is None or before.before is None)
    outer = before if before is not None and given.statement == WRITE_NAME else None
    outer = outer.outer or outer if outer is not None else None  # it is executed again, behind its own write
    name = WRITE_NAME if outer is None else SECOND_NAME
    closes = message(b"C", b"S" + name + b"\0")
    messages = [
        closes,  # one that was left when a statement before has failed
        message(b"C", b"P" + portal + b"\0"),
        encode_parse(name, writable(session, write.text), sent.oids),
        encode_bind(Bind(portal, name, sent.formats, sent.values, given.result_formats)),
        *([message(b"D", b"P" + portal + b"\0")] if describes else ()),
        message(b"E", portal + b"\0" + computing.limit.to_bytes(4, "big")),
        *(() if write.copied else (closes,)),
    ]
    session.client_frames.put_before(b"".join(messages))
    left = len(messages) + (before.left if before is not None else 0)
    copied = tuple(row) if write.copied else ()
    shown = encode_row_description(description.planned) if description is not None and plan.split.returns else b""
    stored, text, touched, until = write.computed, plan.text, plan.source.touched, computing.until
    placing: Placing | None = plan.placed_in_write
    if outer is not None:
        stored |= {k for k, n in enumerate(write.parameters, start=1) if n in outer.computed}
        text, touched, placing = outer.text, outer.touched, in_turn(placing, outer.placing)
        until = min(until, outer.until)
    session.writing = Writing(
        left, stored, silent, text, touched, counted,
        kept=write.kept, shown=shown, explained=explained, copied=copied, outer=outer, placing=placing,
        until=until,
    )  # fmt: skip
    session.pipeline.silent, session.pipeline.placing = True, placing


def _counted(session: State, computing: Computing, portal: bytes, row: list[bytes | None]) -> Counted:
    write, given = computing.plan.split.write, computing.portal.given
    assert write is not None
    assert given is not None
    expected, locked = row[write.expected - 1], (row[0], row[1])
    if expected is None:
        raise StatementRefused(
            "a row is in conflict with several proposed rows, of which its condition drops the first",
            hint="Send these rows one by one.",
        )
    if computing.limit and computing.plan.split.returns:
        raise StatementRefused(
            "the result of ON CONFLICT DO UPDATE with values that are computed beside the proxy is not shown in parts",
            hint="Execute it without a limit of rows.",
        )
    if session.writing is not None and session.writing.before is not None and session.writing.before.locked == locked:
        raise StatementRefused(
            "a row is in conflict that is not found by the columns of ON CONFLICT",
            hint="A trigger has dropped the change, or a view or row-level security hides the row. Update it in another statement.",
        )
    return Counted(_COUNT(expected)[0], locked, _again(session, computing, portal, given) if write.again else ())


def _again(session: State, computing: Computing, portal: bytes, given: Given) -> tuple[bytes, ...]:
    """Return the messages that have a split statement executed again; none where it is closed already."""
    prepared = session.names.statements.get(readable(session, given.statement))
    if prepared is None or prepared.plan.text != computing.plan.text:
        return ()
    bind = Bind(portal, given.statement, tuple(given.formats), list(given.values), given.result_formats)
    return message(b"C", b"P" + portal + b"\0"), encode_bind(bind), message(b"E", portal + bytes(5))


def hold(session: State) -> bool:
    """Tell whether an Execute is that of a write whose rows are counted: nothing behind it is sent until it has ended."""
    writing = session.writing
    if writing is None or writing.counted is None:
        return False
    session.held, writing.counted = writing.counted, None
    return True


def release(session: State) -> None:
    """Go on behind such a write, which has failed, or behind a COPY FROM that has."""
    if session.held is not None:
        session.held, session.blocked = None, False
    if session.copy.awaited:
        session.copy.awaited = session.blocked = False
    if session.copy.behind:
        session.client_frames.put_before(session.copy.behind)
        session.copy.behind = b""


def await_data(session: State, expected: Expected) -> None:
    """Take nothing behind the Execute of a COPY FROM before the server asks for its data, where that comes behind more messages.

    These are the last of those that stand for a simple Query: the server would take none of them before the data.
    """
    writing = session.writing
    expected.copied = writing.copied if writing is not None else ()
    if writing is not None and writing.copied and writing.was_silent:
        session.copy.awaited = session.blocked = True
        session.to_server.append(FLUSH)


def data_begins(session: State) -> None:
    """Keep the messages that stand before the data of such a COPY until that has ended."""
    if not session.copy.awaited:
        return
    session.copy.awaited = session.blocked = False
    frames = session.client_frames
    if not frames.data.startswith(END_OF_QUERY, frames.pos):
        raise WireError("the end of a simple Query is not where it was put")
    frames.advance(frames.pos + len(END_OF_QUERY))
    session.copy.behind = END_OF_QUERY


def data_ends(session: State, end: int) -> None:
    """Go on behind the data, the last message of which ends there: the write's statement is closed, then what was kept is taken."""
    front = session.pipeline.front()
    if front is None or not front.copied:
        return
    session.to_server.append(message(b"C", b"S" + WRITE_NAME + b"\0"))
    session.pipeline.push(Expected(Kind.CLOSE, undo=[session.names.forget_statement(WRITE_NAME)], silent=True))
    frames = session.client_frames
    frames.data = frames.data[:end] + session.copy.behind + frames.data[end:]
    session.copy.behind = b""


def all_written(session: State, tag: bytes) -> bool:
    """Tell whether such a write has written all rows, as its command tag says. If none, the whole statement is executed again.

    InsertedMeanwhile where there are some, or it cannot be executed again.
    """
    held, session.held = session.held, None
    assert held is not None
    session.blocked = False
    count = int(tag.rpartition(b" ")[2])
    if count == held.expected:
        return True
    if count or not held.again:
        raise InsertedMeanwhile(
            "could not serialize access: a row was inserted meanwhile with which a proposed row is in conflict",
            hint="Run it again. Where it always fails, a trigger has dropped the row, or changed it before it was inserted.",
        )
    assert session.writing is not None
    session.client_frames.put_before(b"".join(held.again))
    session.writing.before = held
    session.writing.left += len(held.again)
    return False


def check_time(session: State) -> None:
    """Go on where nothing is written now, or by somebody who sees yet what he saw when its rows were asked for; EndedMeanwhile."""
    if session.writing is not None and session.now >= session.writing.until:
        why = "the time of a reason or token has ended while the rows were read that this would write"
        raise EndedMeanwhile(why, hint="Nothing was written. Run it again as who you are now.")


def check(session: State, plan: StatementPlan) -> None:
    """Go on where a statement is no such write, or seals all computed values; StatementRefused."""
    split = plan.prepared[0] if plan.prepared is not None else plan
    if isinstance(split, SplitPlan) and split.split.own and session.writing is None:
        raise StatementRefused("the names of the proxy's own writes are in it", hint="Call what begins with phi_ something else.")
    if session.writing is not None and session.writing.copied:
        check_copied(plan, len(session.writing.copied))
    elif session.writing is not None:
        check_stored(plan, session.writing.computed, session.writing.kept)


def taken(session: State) -> None:
    """Note that one of the client's messages, or of those put before them, was taken."""
    writing = session.writing
    if writing is not None:
        writing.left -= 1
        if not writing.left:
            session.writing = None
            session.pipeline.silent, session.pipeline.placing = writing.was_silent, None


def placed(session: State, error: PhiproxyError) -> PhiproxyError:
    """Return an error with its position in the client's text, where it has one in the text of such a write."""
    placing = session.pipeline.placing
    if placing is not None and error.position is not None:
        error.position = placing(error.position)
    return error
