"""``auth.mode: scram``: the proxy lets the client in itself, and logs in to the server in its name; never meets a password.

The client's proof gives its ClientKey away (``wire.scram``), and with that one the same role is logged in upstream, each leg bound
to its own certificate. Until the client has shown that it knows its password, no connection to the server is made for it.
"""

import asyncio
import struct

from phiproxy.errors import PhiproxyError, WireError
from phiproxy.net.first_packet import First
from phiproxy.net.leg import Leg
from phiproxy.net.login_messages import LoginMessages
from phiproxy.net.scram_verifiers import Verifiers
from phiproxy.net.tls import end_point
from phiproxy.net.upstream import Connector, UpstreamError
from phiproxy.session.startup_message import Admission, admit
from phiproxy.wire.messages import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    TERMINATE,
    Startup,
    authentication,
    decode_sasl_initial_response,
    decode_sasl_mechanisms,
    encode_authentication_sasl,
    encode_sasl_initial_response,
    encode_startup,
    message,
)
from phiproxy.wire.scram import (
    PLAIN,
    PLUS,
    BindingRefused,
    Credentials,
    LoginRefused,
    MalformedLogin,
    PasswordRefused,
    ScramClient,
    ScramServer,
    Verifier,
)

MAX_NAME = 63  # NAMEDATALEN - 1: a server takes no more of a name
_MAX_CLIENT_MESSAGE = 1024  # PG_MAX_SASL_MESSAGE_LENGTH
_MAX_SERVER_MESSAGE = 64 * 1024
_OK, _CLEARTEXT, _MD5, _SASL, _CONTINUE, _FINAL = 0, 3, 5, 10, 11, 12
# How long it is remembered which protocol the server speaks: it may be upgraded behind the proxy.
_PROTOCOL_TTL = 60.0


class NoUser(LoginRefused, sqlstate="28000"):
    """A StartupMessage without a role (28000)."""


class CannotAnswer(PhiproxyError, sqlstate="28000", anchor="err-authentication"):
    """The server asks for what only a password can answer (28000)."""


class Login:
    """A client that has shown who it is; ``negotiation`` it has been told already."""

    def __init__(self, admission: Admission, credentials: Credentials) -> None:
        self.admission = admission
        self._credentials: Credentials | None = credentials

    async def go_on(self, client: Leg, server: Leg, certificate: bytes | None, timeout: float) -> None:
        """Log in upstream as the client, once: the ClientKey is forgotten then. The server's AuthenticationOk is left unread.

        ConnectionError when the server has said no, which the client has been told in the server's words.
        """
        credentials, self._credentials = self._credentials, None
        assert credentials is not None
        messages = LoginMessages(server, _MAX_SERVER_MESSAGE)
        try:
            async with asyncio.timeout(timeout):
                messages.say(self.admission.packet)
                await _Upstream(client, messages, credentials, certificate, self.admission.version).log_in()
        except TimeoutError:
            raise UpstreamError(f"the PostgreSQL server has not finished the login within {timeout:g} s") from None
        except LoginRefused as error:
            raise UpstreamError(f"the PostgreSQL server does not keep to SCRAM: {error.message}") from None


class Authenticator:
    """Asks clients for their proof."""

    def __init__(self, verifiers: Verifiers, secret: bytes, connector: Connector, service_user: str) -> None:
        self.verifiers = verifiers
        self._secret = secret
        self._protocol = _ServerProtocol(connector, service_user.encode())

    async def let_in(self, client: First, startup: Startup) -> Login:
        """Authenticate a client; LoginRefused in PostgreSQL's words, ConnectionError when it went away."""
        newest = await self._protocol.newest() if startup.code > PROTOCOL_3_0 else PROTOCOL_3_0
        admission = admit(startup, newest)
        role = startup.get(b"user") or b""
        if not role:
            raise NoUser("no PostgreSQL user name specified in startup packet")
        messages = LoginMessages(client, _MAX_CLIENT_MESSAGE)
        client.release()
        try:
            if admission.negotiation is not None:
                messages.say(admission.negotiation)
            return Login(admission, await self._exchange(messages, role[:MAX_NAME], _binding(client.certificate)))
        finally:
            client.hold()
            messages.end()

    async def _exchange(self, messages: LoginMessages, role: bytes, binding: bytes | None) -> Credentials:
        stored = await self.verifiers.of(role)
        verifier = stored.verifier or Verifier.mock(role, self._secret, stored.iterations)
        messages.say(encode_authentication_sasl((PLAIN,) if binding is None else (PLUS, PLAIN)))
        mechanism, initial = decode_sasl_initial_response(await _response(messages))
        server = ScramServer(verifier, mechanism, binding, doomed=stored.verifier is None)
        if initial is None:
            messages.say(authentication(_CONTINUE))
            initial = await _response(messages)
        messages.say(authentication(_CONTINUE, server.first(initial)))
        name = role.decode("utf-8", "replace")
        try:
            said, credentials = server.final(await _response(messages), name)
        except (PasswordRefused, BindingRefused) as error:
            if stored.verifier is None:
                error.why = stored.why_not
            elif isinstance(error, PasswordRefused):
                error.why = "wrong password"
            raise
        messages.say(authentication(_FINAL, said))
        return credentials


async def _response(messages: LoginMessages) -> bytes:
    tag, payload = await messages.next()
    if tag != b"p":
        raise MalformedLogin(f"expected SASL response, got message type {tag[0]}")
    return payload


def _binding(certificate: bytes | None) -> bytes | None:
    return None if certificate is None else end_point(certificate)


class _Upstream:
    """The login upstream, message by message."""

    def __init__(
        self, client: Leg, messages: LoginMessages, credentials: Credentials, certificate: bytes | None, version: int
    ) -> None:
        self._client = client
        self._messages = messages
        self._credentials = credentials
        self._binding = _binding(certificate)
        self._version = version
        self._scram: ScramClient | None = None
        self._proven = False

    async def log_in(self) -> None:
        """Answer the server until it says AuthenticationOk."""
        while True:
            try:
                tag, payload = await self._messages.next()
            except ConnectionError:
                raise UpstreamError("the PostgreSQL server closed the connection during the login") from None
            if tag == b"R":
                if self._request(payload):
                    self._messages.end(message(tag, payload))
                    return
            elif tag == b"v":
                # The client has been told a version already, so the server cannot have another.
                if len(payload) < 4 or struct.unpack_from("!I", payload)[0] < self._version:
                    raise UpstreamError("the PostgreSQL server speaks an older protocol than it did a moment ago")
            elif tag == b"E":
                if self._client.transport is not None and not self._client.transport.is_closing():
                    self._client.transport.write(message(tag, payload))
                raise ConnectionAbortedError("the server has said no")
            elif tag != b"N":  # libpq does not expect a notice before it is let in
                raise WireError("the server sent a message that is not of a login")

    def _request(self, payload: bytes) -> bool:
        """Answer an AuthenticationXXX; True when it is the last."""
        if len(payload) < 4:
            raise WireError("an authentication request is too short")
        (code,) = struct.unpack_from("!I", payload)
        data = payload[4:]
        if code == _OK:
            if self._scram is not None and not self._proven:
                raise UpstreamError("the PostgreSQL server has not shown that it knows the role's verifier")
            return True
        if code == _SASL:
            self._begin(decode_sasl_mechanisms(data, 0, len(data)))
        elif code == _CONTINUE and self._scram is not None:
            self._messages.say(message(b"p", self._scram.final(data)))
        elif code == _FINAL and self._scram is not None:
            self._proven = self._scram.accepts(data)
        else:
            raise _unanswerable(code)
        return False

    def _begin(self, offered: list[bytes]) -> None:
        if PLAIN not in offered and (PLUS not in offered or self._binding is None):
            raise _unanswerable(_SASL)
        self._scram = ScramClient(self._credentials, offered, self._binding)
        self._messages.say(encode_sasl_initial_response(self._scram.mechanism, self._scram.first()))


def _unanswerable(code: int) -> CannotAnswer:
    asked = {_CLEARTEXT: "the password in clear (pg_hba.conf: password, ldap, pam or radius)", _MD5: "an MD5 password"}
    what = asked.get(code, f"authentication that is not SCRAM-SHA-256 (request {code})")
    return CannotAnswer(
        f"the server asks for {what}, and auth.mode scram knows no password",
        hint="Let pg_hba.conf say scram-sha-256 for the proxy's address, or use auth: {mode: passthrough}.",
    )


class _ServerProtocol:
    """Which protocol the server speaks: a client is told before the server is asked anything for it."""

    def __init__(self, connector: Connector, user: bytes) -> None:
        self._connector = connector
        self._user = user
        self._newest = PROTOCOL_3_0
        self._until = 0.0

    async def newest(self) -> int:
        """Return the newest version that both the server and the proxy speak; UpstreamError when there is no server."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            newest = await self._ask()
            if newest is None:
                return PROTOCOL_3_0
            self._newest, self._until = newest, loop.time() + _PROTOCOL_TTL
        return self._newest

    async def _ask(self) -> int | None:
        """Begin a login of the service's role and see what is answered; None when that says nothing of versions."""
        _, leg, _ = await self._connector.connect(Leg)
        messages = LoginMessages(leg, _MAX_SERVER_MESSAGE)
        try:
            messages.say(encode_startup(PROTOCOL_3_2, [(b"user", self._user), (b"database", b"postgres")]))
            tag, payload = await messages.next()
            if tag == b"v" and len(payload) >= 4:
                return min(int.from_bytes(payload[:4], "big"), PROTOCOL_3_2)
            if tag != b"R":
                return None
            if payload == b"\0\0\0\0":
                messages.say(TERMINATE)
            return PROTOCOL_3_2
        except (ConnectionError, WireError):
            return None
        finally:
            await messages.close()
