"""TLS for both legs: contexts (at least TLS 1.2, ALPN ``postgresql``: manual 55.2.11), and what a certificate binds SCRAM to."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from phiproxy.errors import ConfigError
from phiproxy.net.tls_files import load_authorities, load_pair
from phiproxy.policy.settings import ClientTls, Upstream

ALPN = "postgresql"
# Python's own default, which distributions replace by OpenSSL's: no key transport, and no key that was agreed on beforehand.
SUITES = "ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM:!PSK"


@dataclass(frozen=True, slots=True)
class Offer:
    """What clients are offered: a context, and the certificate in it (DER)."""

    context: ssl.SSLContext
    certificate: bytes

    @property
    def asks_certificate(self) -> bool:
        """Whether clients must show one of their own."""
        return self.context.verify_mode is not ssl.CERT_NONE


def client_offer(settings: ClientTls) -> Offer | None:
    """Return the TLS that is offered to clients, or None where none is; ConfigError when a file cannot be used."""
    if settings.mode == "disable" or settings.certificate is None:
        return None
    before = _first_certificate(settings.certificate)
    context = client_context(settings)
    if context is None:
        return None
    if before is None or before != _first_certificate(settings.certificate):
        raise ConfigError("tls.certificate is being written at this moment")
    return Offer(context, before)


def _first_certificate(path: Path) -> bytes | None:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0].public_bytes(serialization.Encoding.DER)
    except (OSError, ValueError):
        return None


def end_point(certificate: bytes) -> bytes | None:
    """Return ``tls-server-end-point`` (RFC 5929, 4.1): the certificate's hash by the algorithm that it is signed with.

    MD5 and SHA-1 make way for SHA-256. None for a signature without a hash of its own (Ed25519, Ed448, ML-DSA): the RFC has no rule
    for it, and libpq ends the login where such a channel shall be bound, so ``-PLUS`` is neither offered nor asked for.
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return None
    if algorithm is None:
        return None
    weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    digest = hashes.Hash(hashes.SHA256() if weak else algorithm)
    digest.update(certificate)
    return digest.finalize()


def client_context(settings: ClientTls) -> ssl.SSLContext | None:
    """Return the context that is offered to clients, or None where none is; ConfigError when a file cannot be used."""
    if settings.mode == "disable" or settings.certificate is None or settings.private_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    context.set_ciphers(SUITES)
    load_pair(context, settings.certificate, settings.private_key)
    if settings.client_ca is not None:
        load_authorities(context, settings.client_ca)
    # As PostgreSQL's own: nothing to resume, since a ticket would outlive what a client's certificate was checked against.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    if settings.mode == "verify-client":
        # One that does not verify ends the handshake; who shows none is told so, as by the server, and goes no further.
        context.verify_mode = ssl.CERT_OPTIONAL
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
    context.set_ciphers(SUITES)
    context.check_hostname = settings.tls == "verify-full"
    if settings.tls in ("prefer", "require"):
        context.verify_mode = ssl.CERT_NONE
    return context


def offered_suites(tls: ClientTls, upstream: Upstream) -> list[str]:
    """Return the cipher suites that both legs would agree to, by OpenSSL's names; ConfigError when a file cannot be used."""
    contexts = (client_context(tls), upstream_context(upstream))
    return [suite["name"] for context in contexts if context is not None for suite in context.get_ciphers()]
