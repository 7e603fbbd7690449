"""Long messages in which nothing is protected: they pass as they come, and are never held (``wire.framing``).

A client's handler here takes the beginning of a message, where everything is that must be known of it. It handles the message as
the one for whole messages would, or raises Whole when the rest is needed, or Later when too little of it is there to tell.
"""

from phiproxy.session import client_encoding, copy_data
from phiproxy.session.client_encoding import readable
from phiproxy.session.client_messages import Handler, function_call
from phiproxy.session.extended_query import bind
from phiproxy.session.named_objects import current
from phiproxy.session.pipeline import Kind, Later, Whole
from phiproxy.session.results import columns_of
from phiproxy.session.state import State
from phiproxy.session.statement_effects import await_name
from phiproxy.wire.fields import bind_names

# The two names of a Bind are in its first bytes: longer ones are no names (NAMEDATALEN).
_NAMES = 4096


def bind_begins(session: State, data: bytes, start: int, end: int) -> None:
    """Bind: one whose parameters and results are not protected goes on."""
    if end - start < _NAMES and data.count(0, start + 5, end) < 2:
        raise Later
    client_encoding.await_encoding(session)
    name = readable(session, bind_names(data, start + 5, end)[1])
    await_name(session, "S", name)
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
    if (session.copy.rows is not None and not session.copy.failed) or (session.pipeline.copy_in and session.copy.outdated):
        raise Whole
    copy_data.copy_data(session, data, start, end)


BEGINNINGS: dict[int, Handler] = {ord("B"): bind_begins, ord("F"): function_call_begins, ord("d"): copy_data_begins}


def goes_on(session: State, tag: int) -> bool | None:
    """Tell whether a long message of the server's goes on to the client (False: it is dropped); None when it must be whole."""
    if session.pipeline.discarding:
        return False
    front = session.pipeline.front()
    if front is not None and (front.kind is Kind.INTERNAL or front.of_source):
        return None  # a row of a source is the engine's, protected or not
    if tag == ord("d") and copy_data.copying(front) is not None:
        return None
    return True if tag != ord("D") or session.database is None or columns_of(front) is None else None
