"""What takes longer than other sessions may wait: done apart from the loop, or in slices, while only this session waits for it.

A handler asks for the outcome of some work. Where there is none yet WorkNeeded leaves the message where it is; whoever drives the
session does the work, and the message is taken again, with the outcome. What was done belongs to that one message.

Plans are made by another thread, since they are made of texts and catalogues and of nothing that others change. What needs keys is
done on the loop, in slices: a keyring is not for several threads. Of a long value the loop takes the keys, and the thread does what
is to be done with it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar, cast

from phiproxy.errors import KeyNeeded, LongWorkNeeded, ValueRefused, WireError
from phiproxy.long_values import LONG_JSON, LONG_VALUE, LongWork
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.convert_values import MANY, at_once
from phiproxy.plan.copy_sealing import BLOCK, SLICE, CopyIn, CopyOut
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Analysed
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import ScriptPlan, StatementPlan, edits_of, longest, spell_steps
from phiproxy.plan.values_no_index_answers import Unanswered
from phiproxy.session import client_encoding
from phiproxy.session.current_access_and_expiry import check_told
from phiproxy.session.needs import Describe, Enter, Work, WorkNeeded
from phiproxy.session.pipeline import Edits
from phiproxy.session.state import State
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import Bind, RowsFunction, bind_parts, decode_bind
from phiproxy.wire.messages import Parse, decode_parse, decode_query, message

# A shorter text of fewer statements and queries is planned within some 20 milliseconds, whatever it says. What a split of queries
# within queries takes grows with the square of their depth: 60 of them, in 2.7 KB, took seconds.
SHORT_TEXT = 512
LONG_TEXT = 4 * 1024
MANY_STATEMENTS = 16
MANY_QUERIES = 16
# Of a longer message each look at it, and each copy, is felt: the fast path leaves it to the handlers.
MUCH = 256 * 1024
# So much of a long message of COPY data is read before what becomes of that is sent: a megabyte or so, which is not felt by others
# where it is written, nor where its memory is given back.
PORTION = 256 * 1024

T = TypeVar("T")


def _done(session: State, kind: type[T], work: Work) -> T:
    """Return the outcome of work that was done for this message; WorkNeeded where it was not, or is to be done again."""
    for work_done in session.worked:
        if work_done.key == work.key:
            try:
                outcome = work_done.outcome()
            except Exception:
                # A need that is met, or a refusal: neither is the outcome of what is asked the next time.
                session.worked.remove(work_done)
                raise
            assert isinstance(outcome, kind)
            return outcome
    raise WorkNeeded(work)


def _said(view: View) -> tuple[object, ...]:
    """Return what a plan hangs on of a view. That the catalogue was read again makes no other plan of the same one."""
    return view.path, view.database, view.created, view.utf8, view.path_set, view.styles


def _is_planned_soon(text: bytes) -> bool:
    if len(text) >= LONG_TEXT or text.count(b";") >= MANY_STATEMENTS:
        return False
    return len(text) < SHORT_TEXT or text.lower().count(b"select") <= MANY_QUERIES


def found_in(session: State, text: bytes, key: tuple[object, ...], search: Callable[[], bool]) -> bool:
    """Return what a search of a text comes to; WorkNeeded for a long one. ``key`` says for what it is searched."""
    return search() if len(text) <= MUCH else _done(session, bool, Work((*key, text), apart=search))


def plan_script(session: State, text: bytes) -> ScriptPlan:
    """Return the plan of a simple Query; raises what ``Planner.script`` raises, KeyNeeded and WorkNeeded."""
    check_told(session, text)
    planner, view = session.planner, session.view()
    planner.open_views(text)
    if _is_planned_soon(text):
        return planner.script(text, view)
    cached = planner.known_script(text, view)
    if cached is not None:
        return cached
    planner.open_defaults(text)
    key = ("script", planner, text, *_said(view))
    return _done(session, ScriptPlan, Work(key, apart=lambda: planner.script(text, view)))


def plan_statement(session: State, text: bytes, oids: tuple[int, ...]) -> StatementPlan:
    """Return the plan of a Parse; raises what ``Planner.statement`` raises, KeyNeeded and WorkNeeded."""
    check_told(session, text)
    planner, view = session.planner, session.view()
    planner.open_views(text)
    if _is_planned_soon(text):
        return planner.statement(text, oids, view)
    cached = planner.known_statement(text, oids, view)
    if cached is not None:
        return cached
    planner.open_defaults(text)
    key = ("statement", planner, text, oids, *_said(view))
    outcome = _done(session, object, Work(key, apart=lambda: planner.analysed(text, oids, view)))
    return planner.completed(text, cast("Analysed", outcome), oids, view)


def plan_waiting(session: State, text: bytes, oids: tuple[int, ...], waiting: Unanswered, refused: ValueRefused) -> SplitPlan:
    """Return the plan of a statement that is split for some values; raises what ``Planner.waiting`` does, KeyNeeded, WorkNeeded."""
    check_told(session, text)
    planner, view = session.planner, session.view()
    planner.open_views(text)
    if _is_planned_soon(text):
        return planner.waiting(text, oids, view, waiting, refused)
    planner.open_defaults(text)
    key = ("waiting", planner, text, oids, waiting, *_said(view))
    return _done(session, SplitPlan, Work(key, apart=lambda: planner.waiting(text, oids, view, waiting, refused)))


def spell(
    session: State, plan: StatementPlan | ScriptPlan, ciphers: Ciphers, styles: Styles
) -> tuple[bytes, Edits | Callable[[], Edits]]:
    """Return the server's text of a simple Query, or the text to prepare, with its literals sealed or tagged; and the edits.

    Raises what ``ScriptPlan.render`` raises, and WorkNeeded.
    """
    rendered = plan.rendered if isinstance(plan, ScriptPlan) else plan.inline
    if rendered is None:
        return (plan.text, ()) if isinstance(plan, ScriptPlan) else (plan.sql, plan.edits)
    occurrences, size = rendered.occurrences, len(plan.text)
    key = ("render", rendered, ciphers, styles)
    short = len(occurrences) < MANY and (
        size <= LONG_JSON or size <= min((longest(o.use) for o in occurrences), default=LONG_VALUE)
    )
    if short and all(work.key != key for work in session.worked):
        text, edits = at_once(spell_steps(rendered, ciphers, styles))
        if _is_written_apart(session, text):
            # Sealed once more it would be another text, which would be asked for anew, without end.
            kept = Work(key)
            kept.done((text, edits))
            session.worked.append(kept)
    else:
        text, edits = _done(session, tuple, Work(key, steps=lambda: spell_steps(rendered, ciphers, styles)))
    return text, partial(edits_of, edits)


def let_go(session: State) -> None:
    """Forget what was done for the message that was taken; a long plan is kept in parts, to be let go of one by one."""
    worked, session.worked = session.worked, []
    for work in worked:
        if work.key[0] == "script":
            plan = work.result
            rendered = plan.rendered if isinstance(plan, ScriptPlan) else None
            if rendered is not None and len(rendered.occurrences) > MANY:
                parts = [*rendered.occurrences, *rendered.pieces]
                session.over += [parts[at : at + MANY] for at in range(0, len(parts), MANY)]


def asked(session: State, key: tuple[object, ...], engine: Describe | Enter) -> object:
    """Return what the engine says, or what stands for a session of it; raises what it raises, and WorkNeeded."""
    return _done(session, object, Work(key, engine=engine))


def bound(session: State, data: bytes, pos: int, end: int) -> Bind:
    """Return what a Bind says; raises what ``decode_bind`` raises, and WorkNeeded."""
    if end - pos <= MUCH:
        return decode_bind(data, pos, end)
    return _done(session, Bind, Work(("bind",), apart=partial(decode_bind, data, pos, end)))


def bind_message(session: State, bind: Bind) -> list[bytes]:
    """Return the parts of a Bind message; raises WorkNeeded."""
    if len(bind.values) < MANY:
        return bind_parts(bind)
    return _done(session, list, Work(("bind message", bind), apart=partial(bind_parts, bind)))


def open_row(session: State, ciphers: Ciphers, rows: RowsFunction, data: bytes, begin: int, end: int) -> list[bytes]:
    """Return what is shown of one DataRow; raises what ``rows`` raises, and WorkNeeded."""
    shown: list[bytes] = []

    def opened() -> int:
        shown.clear()
        return rows(data, begin, end, shown)

    if _with_long_work(session, ciphers.long_work, opened) != end:
        raise WireError("a row is shorter than its fields")
    return shown


def copied_out(session: State, copy: CopyOut, data: bytes, begin: int, end: int) -> bytes:
    """Return what the client gets for data of COPY TO; raises what ``CopyOut.feed`` raises, and WorkNeeded."""
    return _with_long_work(session, copy.long_work, partial(copy.feed, data, begin, end))


def _with_long_work(session: State, long_work: LongWork, attempt: Callable[[], T]) -> T:
    """Return what an attempt comes to that is given the outcomes of long work one after the other; WorkNeeded.

    Where it fails for good, they are forgotten: what the server says next is another message.
    """
    outcomes: list[object] = []
    assert session.database is not None
    openings = session.database.opened
    before = len(openings)
    try:
        while True:
            del openings[before:]  # of an attempt that is made again
            with long_work.given(outcomes):
                try:
                    found = attempt()
                    break
                except LongWorkNeeded as long:
                    needed = Work(("row", len(outcomes)), apart=long.work, refusable=False)
            outcomes.append(_done(session, object, needed))
    except (KeyNeeded, WorkNeeded):
        del openings[before:]
        raise
    except Exception:
        session.worked = []
        raise
    if outcomes:
        session.over += session.worked
        session.worked = []
    return found


def copied_in(session: State, copy: CopyIn, data: bytes, begin: int, end: int) -> Iterator[list[bytes]]:
    """Yield the messages that the server gets for data of COPY FROM; raises what ``CopyIn.feed`` raises, and WorkNeeded.

    What was yielded before WorkNeeded is sent, and comes no second time when the same data are taken again.
    """
    if not session.worked and end - begin <= 2 * SLICE:
        payload = data[begin:end]
        if not copy.is_long(payload):
            yield _copy_messages(copy.feed(payload))
            return
    work = Work(("copy", copy), steps=lambda: copy.steps(data, begin, end, PORTION), refusable=False)
    blocks = _done(session, list, work)
    session.worked = []
    yield _copy_messages(blocks)
    if copy.begun:
        raise WorkNeeded(work)


def copy_ended(session: State, copy: CopyIn) -> Iterator[list[bytes]]:
    """Yield the messages that the server gets for the end of the data; raises what ``CopyIn.finish`` raises, and WorkNeeded."""
    long = bool(session.worked) or copy.is_long(None)  # what was done for this message has taken what was long
    work = Work(("copy", copy), steps=copy.last_steps, refusable=False)
    yield _copy_messages(_done(session, list, work) if long else copy.finish())


def _copy_messages(blocks: Sequence[bytes]) -> list[bytes]:
    """Return CopyData messages in parts: what is long is not copied once more."""
    parts: list[bytes] = []
    for block in blocks:
        parts += (message(b"d", block),) if len(block) < BLOCK else (b"d" + (len(block) + 4).to_bytes(4, "big"), block)
    return parts


def query_text(session: State, data: bytes, pos: int, end: int) -> bytes:
    """Return the text of a Query as ``statement_text`` does; raises what that raises, and what ``decode_query`` does."""
    if end - pos <= MUCH:
        return statement_text(session, decode_query(data, pos, end))
    return _text_apart(session, ("query",), partial(decode_query, data, pos, end))


def parsed(session: State, data: bytes, pos: int, end: int) -> Parse:
    """Return what a Parse says; raises what ``decode_parse`` raises, and WorkNeeded."""
    if end - pos <= MUCH:
        return decode_parse(data, pos, end)
    return _done(session, Parse, Work(("parse",), apart=partial(decode_parse, data, pos, end)))


def statement_text(session: State, text: bytes) -> bytes:
    """Return what the client sent in UTF-8; raises what ``readable`` and ``check_guarded`` raise, and WorkNeeded."""
    if len(text) <= MUCH:
        given = client_encoding.readable(session, text)
        session.check_guarded(given)
        return given
    return _text_apart(session, ("text", text), lambda: text)


def _text_apart(session: State, key: tuple[object, ...], decode: Callable[[], bytes]) -> bytes:
    encoding, guard = session.text.encoding, session.guard

    def read() -> bytes:
        said = decode()
        given = said if encoding is None else encoding.to_utf8(said)
        error = guard(given) if guard is not None else None
        if error is not None:
            raise error
        return given

    return _done(session, bytes, Work((*key, encoding), apart=read))


def _is_written_apart(session: State, text: bytes) -> bool:
    return len(text) > LONG_VALUE and session.text.encoding not in (None, UTF8)


def writable(session: State, text: bytes) -> bytes:
    """Return a text for the server in the client's encoding; raises what ``client_encoding.writable`` raises, and WorkNeeded."""
    if not _is_written_apart(session, text):
        return client_encoding.writable(session, text)
    encoding = session.text.encoding
    assert encoding is not None
    return _done(session, bytes, Work(("writable", encoding, text), apart=partial(encoding.from_utf8, text)))


def read_parameters(
    session: State, plan: StatementPlan, values: Sequence[bytes | None], formats: Sequence[int]
) -> list[bytes | None]:
    """Return the client's parameters with those for protected columns in UTF-8; WorkNeeded, and what ``to_utf8`` raises."""
    encoding = session.text.encoding
    read = partial(client_encoding.parameters, encoding, plan, values, formats)
    if encoding in (None, UTF8) or not any(value is not None and len(value) > LONG_VALUE for value in values):
        return read()
    return _done(session, list, Work(("read", encoding, values), apart=read))


def parameters(
    session: State, plan: StatementPlan, ciphers: Ciphers, values: Sequence[bytes | None], formats: Sequence[int], styles: Styles
) -> list[bytes | None]:
    """Return the server's parameters; raises what ``StatementPlan.parameters`` raises, and WorkNeeded."""
    if len(plan.outputs) < MANY and not any(value is not None and len(value) > plan.longest for value in values):
        return plan.parameters(ciphers, values, formats, styles)
    key = ("parameters", id(plan), ciphers, values, formats, styles)
    return _done(session, list, Work(key, steps=lambda: plan.parameter_steps(ciphers, values, formats, styles)))
