"""The first bytes of a connection: requests for encryption, TLS, and the first packet whole; knows nothing of who is let in.

The bare socket is peeked at before TLS, because a stream that is upgraded in place may lose what was already buffered
(spec/protocol 2). A first packet that is none of the known ones closes the connection silently.
"""

import asyncio
import contextlib
import select
import socket
import struct

from phiproxy.errors import PhiproxyError, WireError
from phiproxy.net.leg import Leg
from phiproxy.net.sockets import keep_alive, readable
from phiproxy.net.tls import ALPN, Offer
from phiproxy.wire.messages import GSSENC_REQUEST, MAX_STARTUP, PROTOCOL_3_0, SSL_REQUEST, error_response

# Where the system can tell (Linux), a peer that closed behind half a packet is seen at once.
_GONE = getattr(select, "POLLRDHUP", 0)


class TlsRequired(PhiproxyError, sqlstate="28000", anchor="err-connection"):
    """A client in clear where TLS is required (28000)."""


class CertificateRequired(PhiproxyError, sqlstate="28000", anchor="err-connection"):
    """A client without a certificate where one is asked for (28000), in PostgreSQL's words."""

    @property
    def public_text(self) -> str:
        """The server's text, exactly."""
        return self.message


class First(Leg):
    """A client's leg until its first packet is whole; ``certificate`` is ours that it saw, where it came through TLS.

    ``uncertified`` says that it has shown none of its own, and should have.
    """

    def __init__(self, certificate: bytes | None = None) -> None:
        super().__init__()
        self.certificate = certificate
        self.uncertified = False
        self.packet: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Collect one untyped packet; what comes behind it is kept for the relay."""
        super().data_received(data)
        if self.packet.done():
            return
        have = b"".join(self.early)
        if len(have) < 4:
            return
        (length,) = struct.unpack_from("!I", have)
        if not 8 <= length <= MAX_STARTUP:
            self.packet.set_exception(WireError("the first packet has an impossible length"))
        elif len(have) >= length:
            self.early = [have[length:]] if len(have) > length else []
            self.hold()  # until there is a relay: what a client says before it is let in waits in the kernel, not here
            self.packet.set_result(have[:length])

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        super().connection_lost(exc)
        if not self.packet.done():
            self.packet.cancel()


async def greet(sock: socket.socket, tls: Offer | None, *, required: bool) -> First | None:
    """Answer SSLRequest and GSSENCRequest on the bare socket; return the leg that the startup packet comes from.

    None when the peer is gone or was refused; WireError and OSError when it is no client. Then the socket is the caller's to close.
    """
    loop = asyncio.get_running_loop()
    sock.setblocking(False)  # noqa: FBT003
    keep_alive(sock)
    for _ in range(3):
        first = await _peek(sock)
        if not first:
            return None
        if first[0] == 0x16:
            return await _upgrade(sock, tls, direct=True)
        code = struct.unpack_from("!I", first, 4)[0] if len(first) >= 8 and first[:4] == b"\0\0\0\x08" else 0
        if code not in (SSL_REQUEST, GSSENC_REQUEST):
            break
        await loop.sock_recv(sock, 8)
        if code == GSSENC_REQUEST or tls is None:
            await loop.sock_sendall(sock, b"N")
            continue
        if len(first) > 8:
            raise WireError("bytes in clear behind an SSLRequest")
        await loop.sock_sendall(sock, b"S")
        return await _upgrade(sock, tls, direct=False)
    if required and struct.unpack_from("!I", first.ljust(8, b"\0"), 4)[0] >> 16 == PROTOCOL_3_0 >> 16:
        await _refuse_clear(sock)
        return None
    _, leg = await loop.connect_accepted_socket(First, sock)
    return leg


async def _refuse_clear(sock: socket.socket) -> None:
    """Say why without having looked at the StartupMessage, and drop it unread: closing before that could take the words back."""
    loop = asyncio.get_running_loop()
    error = TlsRequired("this proxy takes connections with TLS only")
    await loop.sock_sendall(sock, error_response(error.sqlstate, error.public_text, severity="FATAL"))
    sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            for _ in range(MAX_STARTUP):
                if not await loop.sock_recv(sock, MAX_STARTUP):
                    break


async def _upgrade(sock: socket.socket, tls: Offer | None, *, direct: bool) -> First:
    if tls is None:
        raise WireError("TLS is not offered")
    leg = First(tls.certificate)  # uvloop returns another protocol in its place
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: leg, sock, ssl=tls.context)
    chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
    if direct and chosen != ALPN:
        # At once: a transport that still says goodbye must not find that its socket is closed and its number another's.
        transport.abort()
        raise WireError("direct TLS without ALPN postgresql")
    leg.uncertified = tls.asks_certificate and not transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return leg


async def _peek(sock: socket.socket) -> bytes:
    """Return at least 8 bytes of what waits on a socket without taking them; fewer where they are already enough to judge.

    That is TLS's first byte and a length that no first packet has. Empty when the peer is gone.
    """
    delay = 0.005
    while True:
        await readable(sock)
        first = sock.recv(9, socket.MSG_PEEK)
        if not first or first[0] == 0x16 or len(first) >= 8:
            return first
        if len(first) >= 4 and not 8 <= struct.unpack_from("!I", first)[0] <= MAX_STARTUP:
            return first
        if _has_left(sock):
            return b""
        # Readable stays true while a part of the packet waits: look again ever more rarely, within startup_timeout.
        await asyncio.sleep(delay)
        delay = min(2 * delay, 0.25)


def _has_left(sock: socket.socket) -> bool:
    """Tell whether the peer has closed, though something of it is still to be read."""
    if not _GONE:
        return False
    poll = select.poll()
    poll.register(sock, _GONE)
    return bool(poll.poll(0))
