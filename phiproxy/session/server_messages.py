"""Messages from the server, by their tags: each handler sends what the client shall see, and returns where the next begins."""

from phiproxy.session import copy_data
from phiproxy.session.authentication import authentication, key_data, negotiate, parameter_status
from phiproxy.session.error_responses import error, notice
from phiproxy.session.pipeline import Kind
from phiproxy.session.ready_for_query import ready_for_query
from phiproxy.session.replies import Handler, closed, completes, relay
from phiproxy.session.results import command_complete, data_row, parameter_description, portal_suspended, row_description

HANDLERS: dict[int, Handler] = {
    ord("R"): authentication,
    ord("v"): negotiate,
    ord("S"): parameter_status,
    ord("K"): key_data,
    ord("Z"): ready_for_query,
    ord("1"): completes(Kind.PARSE),
    ord("2"): completes(Kind.BIND),
    ord("3"): closed,
    ord("n"): completes(Kind.DESCRIBE),
    ord("t"): parameter_description,
    ord("T"): row_description,
    ord("D"): data_row,
    ord("C"): command_complete,
    ord("I"): command_complete,
    ord("s"): portal_suspended,
    ord("E"): error,
    ord("N"): notice,
    ord("A"): relay,
    ord("V"): relay,
    ord("G"): copy_data.copy_in_response,
    ord("H"): copy_data.copy_out_response,
    ord("W"): relay,
    ord("d"): copy_data.copy_out_data,
    ord("c"): copy_data.copy_out_response,
}
