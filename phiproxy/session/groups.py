"""Whole groups of a prepared statement: Bind, perhaps Describe, Execute and Sync in one piece, and their replies.

The hot path. What is not wholly ordinary here is left where it is, for the handlers; these do the same for the same messages, at
more cost.
"""

from __future__ import annotations

import struct
from copy import copy

from phiproxy.errors import KeyNeeded, PhiproxyError, WireError
from phiproxy.plan.columns import Columns
from phiproxy.plan.quick import BindForm
from phiproxy.plan.statement import StatementPlan
from phiproxy.session.extended import MAX_FORMED, described, executed, formed_by
from phiproxy.session.pipeline import BIND_PASSES, DESCRIBE_PASSES, EXECUTE_PASSES, Expected, Kind, expect_ready
from phiproxy.session.prepared import Group, Portal, Prepared
from phiproxy.session.ready import settle
from phiproxy.session.results import opener_of
from phiproxy.session.state import State
from phiproxy.session.work import MUCH
from phiproxy.wire.fields import decode_bind, encode_codes

_LENGTH = struct.Struct("!I").unpack_from
_DATA_ROW, _COMPLETE, _FIELDS = b"DCT"
_NO_DATA = b"n\0\0\0\x04"
_STATUS = frozenset(b"ITE")
_BIND_COMPLETE = b"2\0\0\0\x04"
_READY = b"Z\0\0\0\x05"
_UNNAMED = ("P", b"")
_MAX_GROUPS = 8

# What drivers send behind a Bind, in one piece with it; whether that describes.
EXECUTE_SYNC = b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"
DESCRIBE_EXECUTE_SYNC = b"D\0\0\0\x06P\0" + EXECUTE_SYNC

# What is awaited for the portal of an ordinary plan; nothing of these is ever changed.
EXECUTED_ALONE = Expected(Kind.EXECUTE, binary=True, alone=True, passes=EXECUTE_PASSES)
EXECUTED = Expected(Kind.EXECUTE, binary=True, passes=EXECUTE_PASSES)
DESCRIBED = Expected(Kind.DESCRIBE, passes=DESCRIBE_PASSES)
# What a Bind awaits that replaces nothing, and whose portal nothing need be known of.
_BOUND = Expected(Kind.BIND, passes=BIND_PASSES, whole=2)
_BOUND_DESCRIBED = Expected(Kind.BIND, passes=BIND_PASSES, whole=3)


def tail_of(data: bytes, end: int) -> bytes:
    """Return what stands behind a Bind up to the Sync, where that makes a whole group of it; else nothing."""
    if data.startswith(EXECUTE_SYNC, end):
        return EXECUTE_SYNC
    return DESCRIBE_EXECUTE_SYNC if data.startswith(DESCRIBE_EXECUTE_SYNC, end) else b""


def end_group(session: State) -> int:
    """End the Sync group that is being sent and return its number."""
    names = session.names
    names.group += 1
    session.group_executes = 0
    session.group_open = False
    return names.group - 1


def ordinary(session: State, tail: bytes) -> None:
    """Await the replies to a group in which nothing is protected.

    The portal is not noted, since what is not known of one is that it shows something protected. In a transaction it lives on, but
    has run.
    """
    run, names = EXECUTED if session.group_executes else EXECUTED_ALONE, session.names
    last = expect_ready(names.group)
    names.group += 1  # end_group, by hand: it is the hot path
    session.group_executes = 0
    session.group_open = False
    session.pipeline.queue.extend((_BOUND, run, last) if tail is EXECUTE_SYNC else (_BOUND_DESCRIBED, DESCRIBED, run, last))
    session.counters.forwarded += 1


def protected(session: State, prepared: Prepared, tail: bytes, data: bytes, start: int, at: int, end: int) -> bytes:
    """Return the server's Bind of a group, and await its replies; empty, and nothing done, where the handlers must look at it.

    The client's Bind is at ``start``; behind its names, ``at``, come formats and values.
    """
    plan = prepared.plan
    if not plan.swift or end - start > MUCH or session.group_executes or (plan.typed and session.path is None):
        return b""
    try:
        form, values = _read(plan, data, start, at, end)
        if not plan.identity:
            values = plan.parameters(session.planner.ciphers, values, form.formed.parameters, session.styles)
    except (PhiproxyError, KeyNeeded):
        return b""
    body = form.written(values)
    _await(session, prepared, form.formed.results, tail)
    session.counters.rewritten += not plan.identity
    session.counters.forwarded += 1
    names = data[start + 5 : at]
    return b"".join((b"B", (len(names) + len(body) + 4).to_bytes(4, "big"), names, body))


def _read(plan: StatementPlan, data: bytes, start: int, at: int, end: int) -> tuple[BindForm, list[bytes | None]]:
    """Return the form of a Bind and its values; what is wrong with it is for the handler to say."""
    for form in plan.bind_forms:
        values = form.values(data, at, end)
        if values is not None:
            return form, values
    sent = decode_bind(data, start + 5, end)
    formed = formed_by(plan, sent)
    count = len(sent.values) if plan.identity else len(plan.outputs)
    form = BindForm(
        encode_codes(sent.formats) + len(sent.values).to_bytes(2, "big"),
        len(sent.values),
        encode_codes(sent.result_formats),
        formed,
        encode_codes(formed.server_parameters) + count.to_bytes(2, "big"),
        encode_codes(formed.server_results),
    )
    if len(plan.bind_forms) < MAX_FORMED:
        plan.bind_forms.append(form)
    return form, sent.values


def _await(session: State, prepared: Prepared, results: tuple[int, ...] | None, tail: bytes) -> None:
    plan, names, queue = prepared.plan, session.names, session.pipeline.queue
    key = (results, tail, session.styles if plan.typed else None)
    group = prepared.groups.get(key)
    if group is None or group.plan is not plan:
        group = _keep(prepared.groups, key, _made(session, plan, results, tail))
    bound = group.bound
    if queue or session.status != b"I" or b"" in names.portals or _UNNAMED in names.changed:
        # In a transaction the portal lives on, and where there was one a Bind that fails leaves it.
        bound = copy(bound)
        bound.undo = (names.bind(b"", Portal(plan, results, names.group, prepared.oids)),)
    queue.append(bound)
    if group.described is not None:
        queue.append(group.described)
    queue.append(group.executed)
    queue.append(expect_ready(end_group(session)))
    prepared.used = True


def _made(session: State, plan: StatementPlan, results: tuple[int, ...] | None, tail: bytes) -> Group:
    """Return what is awaited for a group; it is never changed but for what opens its rows, which is the same each time."""
    bound = Expected(Kind.BIND, passes=BIND_PASSES, whole=2 if tail is EXECUTE_SYNC else 3)
    bound.touches, bound.texts = plan.touches, (plan.sql, plan.text, plan.edits)
    portal = Portal(plan, results, 0)
    shown = None if tail is EXECUTE_SYNC else described(plan, results)
    return Group(plan, results, bound, shown, executed(session, portal, alone=True))


def _keep(groups: dict[object, Group], key: object, group: Group) -> Group:
    if len(groups) >= _MAX_GROUPS:
        groups.clear()
    groups[key] = group
    return group


def answered(session: State, data: bytes, pos: int) -> int:
    """Show the client the replies to a whole group that begin at ``pos``, and return where they end.

    ``pos``, with nothing done, where they are not whole or not what they nearly always are: the handlers look at each then.
    """
    queue = session.pipeline.queue
    entries = queue[0].whole
    if session.path is None or session.path_changed is not None:
        return pos
    found = places(data, pos, session.server_frames.max_message, described=entries > 2)
    if found is None:
        return pos
    end, run = found[-1], queue[entries - 1]
    if run.columns is None:
        session.to_client.append(data if end - pos == len(data) else data[pos:end])
    elif not show(session, run, run.columns, data, found):
        return pos
    for _ in range(entries):
        queue.popleft()
    settle(session, queue.popleft(), data[end - 1 : end])
    return end


def places(data: bytes, pos: int, limit: int, *, described: bool) -> tuple[int, int, int, int] | None:
    """Return where the reply to Describe, the rows, and what comes behind them begin, and where all ends; None: not as ever."""
    # A length below 4 would lead into itself, where no tag is.
    if not data.startswith(_BIND_COMPLETE, pos) or len(data) > limit:
        return None
    begin = first = at = pos + len(_BIND_COMPLETE)
    try:
        if described and data[at] == _FIELDS:
            first = at = at + 1 + _LENGTH(data, at + 1)[0]
        elif described:
            first = at = at + len(_NO_DATA) if data.startswith(_NO_DATA, at) else len(data)
        while data[at] == _DATA_ROW:
            at += 1 + _LENGTH(data, at + 1)[0]
        behind = at
        if data[at] == _COMPLETE:
            at += 1 + _LENGTH(data, at + 1)[0]
            if data.startswith(_READY, at) and data[at + 5] in _STATUS:
                return begin, first, behind, at + 6
    except (IndexError, struct.error):
        pass  # they are not whole
    return None


def show(session: State, run: Expected, columns: Columns, data: bytes, found: tuple[int, int, int, int]) -> bool:
    """Show the replies as the client must see them; False, with nothing done, where the handlers must say why they cannot."""
    assert session.database is not None
    begin, first, behind, end = found
    opened = session.database.doubtful
    opened.clear()
    shown = [_BIND_COMPLETE]
    try:
        if first > begin:
            described = data[begin:first]
            fields = described[0] == _FIELDS
            shown.append(columns.description(described, run.formats, session.planner.sealed) if fields else described)
        if behind > first:
            shown += rows_shown(session, run, columns, data, first, behind)
    except (PhiproxyError, KeyNeeded):
        return False
    shown.append(data[behind:end])
    session.to_client += shown
    if opened:
        session.count_doubtful(run)
    return True


def rows_shown(session: State, run: Expected, columns: Columns, data: bytes, at: int, end: int) -> list[bytes]:
    """Return the rows between two places as the client must see them; SealError, KeyNeeded and their kin."""
    shown = list[bytes]()
    if opener_of(session, run, columns)(data, at, end, shown) != end:
        raise WireError("a row is shorter than its fields")
    return shown
