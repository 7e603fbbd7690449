"""TLS contexts for both legs, from the configuration; minimum TLS 1.2, ALPN ``postgresql`` (manual 55.2.11)."""

from __future__ import annotations

import ssl

from phiproxy.errors import ConfigError
from phiproxy.policy.settings import ClientTls, Upstream

ALPN = "postgresql"


def client_context(settings: ClientTls) -> ssl.SSLContext | None:
    """Return the context that is offered to clients, or None where none is; ConfigError when a file cannot be used."""
    if settings.mode == "disable" or settings.certificate is None or settings.private_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(settings.certificate, settings.private_key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"tls.certificate, tls.private_key or tls.client_ca cannot be loaded: {reason}") from None
    if settings.mode == "verify-client":
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def upstream_context(settings: Upstream) -> ssl.SSLContext | None:
    """Return the context for the server's leg with the meaning of libpq's sslmode, or None for ``disable``."""
    if settings.tls == "disable":
        return None
    try:
        # With a ca_file it alone is trusted, as libpq does and so the service login.
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.ca_file)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"upstream.ca_file {settings.ca_file} cannot be loaded") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    context.check_hostname = settings.tls == "verify-full"
    if settings.tls in ("prefer", "require"):
        context.verify_mode = ssl.CERT_NONE
    return context
