"""Messages from the server, by their tags: each handler sends what the client shall see, and returns where the next begins.

The front of the pipeline says whose reply a message is.
"""

from __future__ import annotations

from phiproxy.session.authentication import authentication, key_data, negotiate, parameter_status
from phiproxy.session.diagnostics import error, notice
from phiproxy.session.pipeline import Kind
from phiproxy.session.ready import ready
from phiproxy.session.replies import Handler, completes, relay
from phiproxy.session.results import command_complete, data_row, parameter_description, row_description
from phiproxy.session.state import State


def copy_in(session: State, data: bytes, start: int, end: int) -> int:
    """CopyInResponse: only for tables that nothing protected is in; COPY of the others was refused."""
    session.pipeline.copy_in_began()
    return relay(session, data, start, end)


def copy_out_data(session: State, data: bytes, start: int, end: int) -> int:
    """CopyData of a table with nothing protected in it: a run of them is forwarded as one slice."""
    return relay(session, data, start, session.server_frames.run_end(ord("d")))


HANDLERS: dict[int, Handler] = {
    ord("R"): authentication,
    ord("v"): negotiate,
    ord("S"): parameter_status,
    ord("K"): key_data,
    ord("Z"): ready,
    ord("1"): completes(Kind.PARSE),
    ord("2"): completes(Kind.BIND),
    ord("3"): completes(Kind.CLOSE),
    ord("n"): completes(Kind.DESCRIBE),
    ord("t"): parameter_description,
    ord("T"): row_description,
    ord("D"): data_row,
    ord("C"): command_complete,
    ord("I"): command_complete,
    ord("s"): completes(Kind.EXECUTE),
    ord("E"): error,
    ord("N"): notice,
    ord("A"): relay,
    ord("V"): relay,
    ord("G"): copy_in,
    ord("H"): relay,
    ord("W"): relay,
    ord("d"): copy_out_data,
    ord("c"): relay,
}
