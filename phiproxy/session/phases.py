"""The phases of one client's conversation, and all that leads from one to another, as one table.

Startup packets are read by ``net`` before there is a session: that begins when the server has been sent the StartupMessage. COPY
and skipping to Sync are not phases: they belong to positions in the pipeline, not to the conversation (``pipeline``).
"""

from collections.abc import Mapping
from enum import Enum

from phiproxy.errors import WireError


class Peer(Enum):
    """Who speaks to a session. Each has a buffer, a loop (``core``), and its own events in the table below."""

    CLIENT = "client"
    SERVER = "server"


class Phase(Enum):
    """Where the conversation is."""

    AUTHENTICATING = "authenticating"
    LOGGED_IN = "logged in"
    """To a database with a policy."""
    TRANSPARENT = "transparent"
    """Logged in to a database without a policy: bytes pass as they come."""
    TERMINATED = "terminated"
    """The client has said Terminate; the server's last replies still go out, and it closes."""
    CLOSED = "closed"
    """Both sockets are closed once the output is written."""


class Event(Enum):
    """What may happen, each with the peer that causes it; None: the session itself."""

    LOGIN_ANSWER = "PasswordMessage, SASLInitialResponse or SASLResponse", Peer.CLIENT
    COMMAND = "a message of a session in progress", Peer.CLIENT
    TERMINATE = "Terminate", Peer.CLIENT
    LOGIN_ENDED = "the first ReadyForQuery of a database with a policy", Peer.SERVER
    LOGIN_ENDED_UNPROTECTED = "the first ReadyForQuery of a database without a policy", Peer.SERVER
    FATAL = "a last word to the client, of the session's own", None


# A member costs eight times as much by way of its class, and the fast path asks for each message.
CLIENT, SERVER = Peer
AUTHENTICATING, LOGGED_IN, TRANSPARENT, TERMINATED, CLOSED = Phase

TRANSITIONS: Mapping[Phase, Mapping[Event, Phase]] = {
    Phase.AUTHENTICATING: {
        Event.LOGIN_ANSWER: Phase.AUTHENTICATING,
        Event.TERMINATE: Phase.CLOSED,
        Event.LOGIN_ENDED: Phase.LOGGED_IN,
        Event.LOGIN_ENDED_UNPROTECTED: Phase.TRANSPARENT,
        Event.FATAL: Phase.CLOSED,
    },
    Phase.LOGGED_IN: {
        Event.COMMAND: Phase.LOGGED_IN,
        Event.TERMINATE: Phase.TERMINATED,
        Event.FATAL: Phase.CLOSED,
    },
    Phase.TRANSPARENT: {Event.FATAL: Phase.CLOSED},
    Phase.TERMINATED: {Event.FATAL: Phase.CLOSED},
    Phase.CLOSED: {Event.FATAL: Phase.CLOSED},
}
"""What may happen in each phase, and which phase follows. Nothing else changes the phase (``State.happens``)."""

CLIENT_EVENTS: Mapping[int, Event] = {
    **dict.fromkeys(b"PBDECSHQFdcf", Event.COMMAND),
    ord("p"): Event.LOGIN_ANSWER,
    ord("X"): Event.TERMINATE,
}
"""The messages that the manual (55.7) lets a client send, by their tags."""

CLIENT_MAY_SAY: Mapping[Phase, frozenset[int]] = {
    phase: frozenset(tag for tag, event in CLIENT_EVENTS.items() if event in row) for phase, row in TRANSITIONS.items()
}
"""The tags that a client may send in each phase; any other is a protocol violation. TRANSPARENT is not framed."""


def after(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows; WireError for an event that may not happen in this one."""
    following = TRANSITIONS[phase].get(event)
    if following is None:
        raise WireError(f"{event.value[0]} is not allowed in phase {phase.value}")
    return following


NAMES = frozenset(b"QPB")
"""Tags of what names relations, or runs what was planned with the names of then."""

OPENS_GROUP = frozenset(b"PBDEC")
ENDS_GROUP = frozenset(b"SQF")
"""Tags that begin and end a Sync group, the extended protocol's implicit transaction (manual 55.2.3)."""

SKIPPED = frozenset(b"PBDECQF")
"""Tags of what the server discards behind an error, up to Sync: nothing of it is sent."""

WHILE_COPYING_IN = frozenset(b"dcfSHX")
"""What a client may send between CopyInResponse and the end of its data."""

CLIENT_STREAMS = frozenset(b"BdF")
SERVER_STREAMS = frozenset(b"DdV")
"""Messages that may be long and, where nothing in them is protected, go on before they are whole."""
