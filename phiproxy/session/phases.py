"""The phases of one client's conversation, as one table: who may say what, when.

Startup packets are read by ``net`` before there is a session. A session begins when the server has been sent the StartupMessage.

    AUTHENTICATING --AuthenticationOk … first ReadyForQuery--> READY        (a database with a policy)
    AUTHENTICATING --first ReadyForQuery---------------------> TRANSPARENT  (one without: bytes pass as they come)
    READY          --Terminate-------------------------------> TERMINATED   (the server's last replies still go out; it closes)
    any            --FATAL, a broken frame-------------------> CLOSED

COPY and skipping to Sync are not phases: they belong to places in the pipeline, not to the conversation (``pipeline``).
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where the conversation is."""

    AUTHENTICATING = "authenticating"
    READY = "ready"
    TRANSPARENT = "transparent"
    TERMINATED = "terminated"
    CLOSED = "closed"


# A member costs eight times as much by way of its class, and the hot paths ask for each message.
AUTHENTICATING, READY, TRANSPARENT, TERMINATED, CLOSED = Phase

CLIENT_MAY_SAY: dict[Phase, frozenset[int]] = {
    Phase.AUTHENTICATING: frozenset(b"pX"),
    Phase.READY: frozenset(b"PBDECSHQFdcfX"),
    Phase.TRANSPARENT: frozenset(),
    Phase.TERMINATED: frozenset(),
    Phase.CLOSED: frozenset(),
}
"""Tags of the manual, 55.7, that a client may send in each phase; any other is a protocol violation. TRANSPARENT is not framed."""

OPENS_GROUP = frozenset(b"PBDEC")
ENDS_GROUP = frozenset(b"SQF")
"""Tags that begin and end a Sync group, the extended protocol's implicit transaction (manual 55.2.3)."""

WHILE_COPYING_IN = frozenset(b"dcfSHX")
"""What a client may send between CopyInResponse and the end of its data."""

CLIENT_STREAMS = frozenset(b"BdF")
SERVER_STREAMS = frozenset(b"DdV")
"""Messages that may be long and, where nothing in them is protected, go on before they are whole."""
