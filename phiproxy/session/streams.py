"""Long messages in which nothing is protected: they pass as they come, and are never held (``wire.framing``).

A client's handler here takes the beginning of a message, where everything is that must be known of it. It handles the message as
the one for whole messages would, or raises Whole when the rest is needed, or Later when too little of it is there to tell.
"""

from __future__ import annotations

from phiproxy.session import copying, encoding
from phiproxy.session.client import Handler, function_call
from phiproxy.session.effects import settled
from phiproxy.session.encoding import readable
from phiproxy.session.extended import bind
from phiproxy.session.known import current
from phiproxy.session.pipeline import Kind, Later, Whole
from phiproxy.session.results import columns_of
from phiproxy.session.state import State
from phiproxy.wire.fields import bind_names

# The two names of a Bind are in its first bytes: longer ones are no names (NAMEDATALEN).
_NAMES = 4096


def bind_begins(session: State, data: bytes, start: int, end: int) -> None:
    """Bind: one whose parameters and results are not protected goes on."""
    if session.pipeline.skipping:
        return
    if end - start < _NAMES and data.count(0, start + 5, end) < 2:
        raise Later
    encoding.settle(session)
    name = readable(session, bind_names(data, start + 5, end)[1])
    settled(session, "S", name)
    plan = current(session, name).plan
    if not plan.identity or (plan.columns is not None and plan.columns.protected):
        raise Whole
    bind(session, data, start, end)


def function_call_begins(session: State, data: bytes, start: int, end: int) -> None:
    """FunctionCall: a large object's goes on."""
    if end - start < 9:
        raise Later
    function_call(session, data, start, end)


def copy_data_begins(session: State, data: bytes, start: int, end: int) -> None:
    """CopyData: one for an unprotected table goes on."""
    if (session.copying is not None and not session.copy_failed) or (session.pipeline.copy_in and session.copy_outdated):
        raise Whole
    copying.copy_data(session, data, start, end)


BEGINNINGS: dict[int, Handler] = {ord("B"): bind_begins, ord("F"): function_call_begins, ord("d"): copy_data_begins}


def goes_on(session: State, tag: int) -> bool | None:
    """Tell whether a long message of the server's goes on to the client (False: it is dropped); None when it must be whole."""
    if session.swallowing:
        return False
    front = session.pipeline.front()
    if front is not None and front.kind is Kind.INTERNAL:
        return None
    if tag == ord("d") and copying.planned(front) is not None:
        return None
    return True if tag != ord("D") or session.database is None or columns_of(front) is None else None
