"""``auth.mode: passthrough`` with TLS on both legs: a client binds SCRAM to our certificate and the server to its own.

So both must be the same one. That is looked at when the configuration is loaded, where the server can be reached, and again for
each client, whose login is refused in words that help before libpq would say that "channel binding check failed".
"""

import asyncio

import structlog

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.net.leg import Leg
from phiproxy.net.login_messages import LoginMessages
from phiproxy.net.tls import Offer
from phiproxy.net.upstream import Connector, UpstreamError

log = structlog.get_logger("phiproxy.tls")

_WHAT = "TLS on both legs with different certificates, so SCRAM with channel binding, libpq's default, cannot be relayed"
_REMEDY = (
    "set auth: {mode: scram}, or let tls.certificate be the server's own,"
    " or set auth.different_certificates: allow for clients without channel binding"
)


class DifferentCertificates(PhiproxyError, sqlstate="28000", anchor="err-authentication"):
    """The server would find the client bound to another certificate than its own (28000)."""


def peer_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """Return the certificate that the other end has shown (DER), None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.getpeercert(binary_form=True)


def unbound(ours: bytes | None, theirs: bytes | None) -> DifferentCertificates | None:
    """Return what is to be said to a client that the server offers channel binding; None where the certificates are one."""
    if ours is None or theirs is None or ours == theirs:
        return None
    return DifferentCertificates(_WHAT, hint=f"The operator can {_REMEDY}.")


async def check_certificates(connector: Connector, offer: Offer | None) -> None:
    """ConfigError when the server, as it is now, has another certificate than the one that clients see."""
    if offer is None:
        return
    try:
        transport, leg, _ = await connector.connect(Leg)
    except UpstreamError as error:
        log.warning("the server's certificate is not known yet", reason=error.message)
        return
    theirs = peer_certificate(transport)
    await LoginMessages(leg, 0).close()
    if unbound(offer.certificate, theirs) is not None:
        raise ConfigError(f"{_WHAT}: {_REMEDY}")
