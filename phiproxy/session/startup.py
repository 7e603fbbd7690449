"""The StartupMessage: which database, which protocol version, and what goes on to the server.

The version forwarded is min(client's, 3.2) with known ``_pq_.`` options only, so that the server cannot choose what the proxy
cannot read; the client gets exactly one NegotiateProtocolVersion when it asked for more (protocol.md; libpq 19 asks for 3.9999).
"""

from __future__ import annotations

from dataclasses import dataclass

from phiproxy.errors import WireError
from phiproxy.wire.messages import PROTOCOL_3_0, PROTOCOL_3_2, Startup, encode_startup, negotiate_protocol_version


@dataclass(frozen=True, slots=True)
class Admission:
    """What a StartupMessage asks for: ``packet`` is for the server, ``negotiation`` for the client before authentication."""

    database: str
    version: int
    replication: bool
    packet: bytes
    negotiation: bytes | None


def admit(startup: Startup, newest: int = PROTOCOL_3_2) -> Admission:
    """Read a StartupMessage; WireError when it is another packet or names are not UTF-8.

    ``newest`` is below 3.2 where it is known already that the server speaks no more.
    """
    if startup.code >> 16 != PROTOCOL_3_0 >> 16:
        raise WireError("not a startup message")
    name = startup.get(b"database") or startup.get(b"user") or b""
    try:
        database = name.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("the database name is not valid UTF-8") from None
    replication = startup.get(b"replication") not in (None, b"false", b"off", b"no", b"0")
    unknown = [n for n, _ in startup.parameters if n.startswith(b"_pq_.")]
    version = min(startup.code, newest)
    if not unknown and version == startup.code:
        return Admission(database, version, replication, startup.body, None)
    known = [(n, v) for n, v in startup.parameters if not n.startswith(b"_pq_.")]
    return Admission(database, version, replication, encode_startup(version, known), negotiate_protocol_version(version, unknown))
