"""Certificates made for one test, and a PostgreSQL that speaks TLS with one of them."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.postgres import binaries
from tests.harness.server import PostgresServer
from tests.harness.waiting import until

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A self-signed authority that issues certificates into a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._issuer = subject
        made = (
            _builder(subject, subject, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.certificate = directory / f"{name}.crt"
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, names: Sequence[str] = ("localhost", "127.0.0.1"), client: bool = False) -> Pair:
        """Issue a certificate for a server of these names, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        made = (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), self._issuer, key.public_key())
            .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _store(Pair(self.directory / f"{self.name}-{name}.crt", self.directory / f"{self.name}-{name}.key"), made, key)


def _store(pair: Pair, made: x509.Certificate, key: PrivateKey) -> Pair:
    pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pair.key.touch(mode=0o600)
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


def self_signed(directory: Path, kind: str) -> Pair:
    """Make a certificate that is signed in a certain way: rsa-sha384, rsa-pss-sha512, ecdsa-sha512, ed25519."""
    key: PrivateKey
    algorithm: hashes.SHA384 | hashes.SHA512 | None = hashes.SHA384() if kind.endswith("384") else hashes.SHA512()
    scheme = None
    if kind.startswith("rsa"):
        key = rsa.generate_private_key(65537, 2048)
        if "pss" in kind:
            scheme = padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.DIGEST_LENGTH)
    elif kind == "ed25519":
        key, algorithm = ed25519.Ed25519PrivateKey.generate(), None
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        _builder(name, name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general("localhost"), _general("127.0.0.1")]), critical=False)
        .sign(key, algorithm, rsa_padding=scheme)
    )
    return _store(Pair(directory / f"{kind}.crt", directory / f"{kind}.key"), made, key)


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Papers:
    """What the TLS tests need: an authority, certificates for the proxy and the server, a client's, and a stranger's."""

    authority: Authority
    stranger: Authority
    proxy: Pair
    server: Pair
    client: Pair
    intruder: Pair

    @classmethod
    def made(cls, directory: Path) -> Self:
        """Issue them all."""
        authority, stranger = Authority(directory, "authority"), Authority(directory, "stranger")
        return cls(
            authority,
            stranger,
            authority.issue("proxy"),
            authority.issue("server"),
            authority.issue("client", client=True),
            stranger.issue("intruder", client=True),
        )

    @property
    def client_tls(self) -> dict[str, str]:
        """The section ``tls`` with the proxy's certificate."""
        return {"certificate": str(self.proxy.certificate), "private_key": str(self.proxy.key)}

    def context(self, *, alpn: bool = True, client: Pair | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts the authority."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if alpn:
            context.set_alpn_protocols(["postgresql"])
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context


def _speaks_tls(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.dsn(), sslmode="require", channel_binding="disable").close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def tls_server(pair: Pair) -> Iterator[PostgresServer]:
    """Run a PostgreSQL that presents this certificate; skip where the server was built without TLS."""
    with EmbeddedPostgres() as own:
        who = binaries.runner()
        for source, name in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
            target = own.data / name
            target.touch(mode=0o600)
            target.write_bytes(source.read_bytes())
            who.own(target)
        server = PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir)
        try:
            with server.connect() as conn:
                conn.execute("ALTER SYSTEM SET ssl = on")
                conn.execute("SELECT pg_reload_conf()")
        except psycopg.errors.FeatureNotSupported:  # pragma: no cover
            pytest.skip("this PostgreSQL was built without TLS")
        except psycopg.errors.InvalidParameterValue as error:
            if "not supported by this build" not in str(error):
                raise
            pytest.skip("this PostgreSQL was built without TLS")
        until(lambda: _speaks_tls(server), "the server does not speak TLS")
        yield server
