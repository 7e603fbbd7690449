"""From the StartupMessage to the first ReadyForQuery: what the server says before anybody is let in."""

from phiproxy.session.phases import AUTHENTICATING
from phiproxy.session.replies import relay
from phiproxy.session.state import State
from phiproxy.wire.messages import (
    PROTOCOL_3_2,
    decode_parameter_status,
    decode_sasl_mechanisms,
    encode_authentication_sasl,
    negotiate_protocol_version,
)


def authentication(session: State, data: bytes, start: int, end: int) -> int:
    """AuthenticationXXX: relayed; ``-PLUS`` leaves the offer where the client's leg cannot bind (spec/protocol 4.1).

    ``unbound`` is said instead of an offer that would lead the client to bind to another certificate than the server's.
    """
    before_authentication(session)
    session.login.asked = _ANSWERS.get(int.from_bytes(data[start + 5 : start + 9], "big"), "password")
    if data[start + 5 : start + 9] == b"\0\0\0\x0a":
        mechanisms = decode_sasl_mechanisms(data, start + 9, end)
        if session.login.unbound is not None and any(m.endswith(b"-PLUS") for m in mechanisms):
            session.fatal(session.login.unbound)
            return end
        if session.login.strip_plus:
            session.to_client.append(encode_authentication_sasl(m for m in mechanisms if not m.endswith(b"-PLUS")))
            return end
    return relay(session, data, start, end)


# What the server calls the answer that it waits for (auth.c); AuthenticationOk and AuthenticationSASLFinal ask for none.
_ANSWERS = {0: "", 12: "", 7: "GSS", 8: "GSS", 9: "GSS", 10: "SASL", 11: "SASL"}


def before_authentication(session: State) -> None:
    """Send the NegotiateProtocolVersion that the client is owed, unless the server's own was merged with it."""
    if session.login.negotiation is not None:
        session.to_client.append(session.login.negotiation)
        session.login.negotiation = None


def negotiate(session: State, data: bytes, start: int, end: int) -> int:
    """NegotiateProtocolVersion: the server's version with the options that the proxy kept back, in exactly one message."""
    if session.login.negotiation is None:
        return relay(session, data, start, end)
    version = min(int.from_bytes(data[start + 5 : start + 9], "big"), PROTOCOL_3_2)
    options = session.login.negotiation[13:].rstrip(b"\0").split(b"\0") if len(session.login.negotiation) > 13 else []
    session.login.negotiation = None
    session.to_client.append(negotiate_protocol_version(version, options))
    return end


def key_data(session: State, data: bytes, start: int, end: int) -> int:
    """BackendKeyData: unchanged, so that any worker can forward the cancel."""
    session.login.backend_key = data[start + 5 : end]
    return relay(session, data, start, end)


_STYLES = frozenset({b"DateStyle", b"IntervalStyle", b"TimeZone"})
_RECORDED = frozenset({b"application_name", b"session_authorization"})


def parameter_status(session: State, data: bytes, start: int, end: int) -> int:
    """ParameterStatus: relayed; some settings decide how texts are read (spec/sql 8)."""
    name, value = decode_parameter_status(data, start + 5, end)
    if name == b"in_hot_standby" and session.phase is AUTHENTICATING and session.login.server_is is not None:
        refused = session.login.server_is(value == b"on")
        if refused is not None:
            session.fatal(refused)
            return end
    if name in (b"client_encoding", b"server_encoding"):
        session.text.told(name, value)
    elif name in _STYLES:
        session.styles.told({name.decode(): value.decode("utf-8", "replace")})
    elif name == b"standard_conforming_strings":
        session.text.conforming = value == b"on"
    elif name in _RECORDED and session.trail is not None:
        session.trail.told(name.decode(), value.decode("utf-8", "replace"))
    elif name == b"search_path" and session.pending.path is None:
        # PostgreSQL 18 tells of every change, also of one that no statement spells; what it resolves to is asked.
        session.search_path.schemas = None
    return relay(session, data, start, end)
