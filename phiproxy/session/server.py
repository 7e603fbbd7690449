"""Messages from the server, by their tags: each handler sends what the client shall see, and returns where the next begins.

The front of the pipeline says whose reply a message is.
"""

from __future__ import annotations

from phiproxy.session import copying
from phiproxy.session.authentication import authentication, key_data, negotiate, parameter_status
from phiproxy.session.diagnostics import error, notice
from phiproxy.session.pipeline import Kind
from phiproxy.session.ready import ready
from phiproxy.session.replies import Handler, closed, completes, relay
from phiproxy.session.results import command_complete, data_row, parameter_description, row_description

HANDLERS: dict[int, Handler] = {
    ord("R"): authentication,
    ord("v"): negotiate,
    ord("S"): parameter_status,
    ord("K"): key_data,
    ord("Z"): ready,
    ord("1"): completes(Kind.PARSE),
    ord("2"): completes(Kind.BIND),
    ord("3"): closed,
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
    ord("G"): copying.copy_in_response,
    ord("H"): copying.copy_out_response,
    ord("W"): relay,
    ord("d"): copying.copy_out_data,
    ord("c"): copying.copy_out_response,
}
