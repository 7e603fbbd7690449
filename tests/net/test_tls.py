"""TLS towards clients: allow, require, verify-client; SSLRequest and direct; what is refused before a byte is believed."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq

from phiproxy.errors import ConfigError
from phiproxy.keys.fips import unapproved_suites
from phiproxy.net.tls import client_context, client_offer, end_point, offered_suites, upstream_context
from phiproxy.policy.settings import ClientTls, Settings, Upstream
from tests.harness.server import PostgresServer
from tests.net.certificates import Pair, Papers, self_signed
from tests.net.peer import SSL, Peer, cancel_request, startup
from tests.net.serving import asleep, bare_settings, connect, serving


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


def with_tls(server: PostgresServer, papers: Papers, mode: str, **changes: Any) -> Settings:
    """Return settings whose door has TLS."""
    section = {"mode": mode, **papers.client_tls, **changes}
    if mode == "verify-client":
        section["client_ca"] = str(papers.authority.certificate)
    return bare_settings(server, tls=section)


async def upgraded(port: int, context: ssl.SSLContext) -> Peer:
    """Connect, ask for TLS and begin it."""
    peer = await Peer.open(port)
    try:
        peer.say(SSL)
        assert await peer.byte() == b"S"
        await peer.writer.start_tls(context, server_hostname="localhost")
    except BaseException:
        peer.writer.transport.abort()
        raise
    return peer


async def test_allow(postgres_server: PostgresServer, papers: Papers) -> None:
    root = str(papers.authority.certificate)
    async with serving(with_tls(postgres_server, papers, "allow")) as (_, port):
        for mode, used in (("disable", False), ("prefer", True), ("require", True), ("verify-full", True)):
            async with await connect(postgres_server, port, sslmode=mode, sslrootcert=root) as conn:
                assert conn.pgconn.ssl_in_use is used
                await conn.execute("SELECT 1")


async def test_require_refuses_a_client_in_clear(postgres_server: PostgresServer, papers: Papers) -> None:
    async with serving(with_tls(postgres_server, papers, "require")) as (_, port):
        async with await Peer.open(port) as peer:
            peer.say(startup(postgres_server.superuser, "postgres"))
            error = await peer.error()
            assert (error["S"], error["C"]) == ("FATAL", "28000")
            assert "TLS only" in error["M"]
            assert await peer.rest() == b""
        async with await connect(postgres_server, port, sslmode="require") as conn:
            assert conn.pgconn.ssl_in_use


@pytest.mark.parametrize("direct", [False, True])
async def test_verify_client(postgres_server: PostgresServer, papers: Papers, direct: bool) -> None:
    async with serving(with_tls(postgres_server, papers, "verify-client")) as (_, port):
        await let_in(port, papers.context(client=papers.client), postgres_server.superuser, direct=direct)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await let_in(port, papers.context(client=papers.intruder), postgres_server.superuser, direct=direct)
        context = papers.context()
        async with await (Peer.open(port, tls=context) if direct else upgraded(port, context)) as peer:
            peer.say(startup(postgres_server.superuser, "postgres"))
            error = await peer.error()
            assert (error["S"], error["C"], error["M"]) == ("FATAL", "28000", "connection requires a valid client certificate")
            assert await peer.rest() == b""


async def let_in(port: int, context: ssl.SSLContext, user: str, *, direct: bool) -> None:
    """Say a StartupMessage inside TLS; it must be answered by an authentication request."""
    peer = await (Peer.open(port, tls=context) if direct else upgraded(port, context))
    async with peer:
        peer.say(startup(user, "postgres"))
        tag, _ = await peer.message()
        assert tag == "R"


async def test_direct_tls_needs_alpn(postgres_server: PostgresServer, papers: Papers) -> None:
    async with serving(with_tls(postgres_server, papers, "require")) as (_, port):
        await let_in(port, papers.context(), postgres_server.superuser, direct=True)
        await let_in(port, papers.context(alpn=False), postgres_server.superuser, direct=False)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await let_in(port, papers.context(alpn=False), postgres_server.superuser, direct=True)
        other = papers.context(alpn=False)
        other.set_alpn_protocols(["http/1.1"])
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await let_in(port, other, postgres_server.superuser, direct=True)


async def test_libpq_direct(postgres_server: PostgresServer, papers: Papers) -> None:
    if pq.version() < 170000:
        pytest.skip("this libpq has no sslnegotiation")
    root = str(papers.authority.certificate)
    async with serving(with_tls(postgres_server, papers, "require")) as (_, port):
        options = {"sslmode": "verify-full", "sslrootcert": root, "sslnegotiation": "direct"}
        async with await connect(postgres_server, port, **options) as conn:
            await conn.execute("SELECT 1")


async def test_direct_tls_where_none_is_offered(postgres_server: PostgresServer, papers: Papers) -> None:
    async with serving(bare_settings(postgres_server)) as (_, port):
        with pytest.raises(OSError, match=r".*"):
            await Peer.open(port, tls=papers.context())


@pytest.mark.parametrize("stuffed", [b"x", startup("postgres", "postgres")])
async def test_bytes_stuffed_behind_sslrequest(postgres_server: PostgresServer, papers: Papers, stuffed: bytes) -> None:
    """CVE-2021-23214: nothing in clear may be taken for what came through TLS."""
    async with serving(with_tls(postgres_server, papers, "allow")) as (_, port), await Peer.open(port) as peer:
        peer.say(SSL + stuffed)
        assert await peer.rest() == b"", "TLS was begun, or the startup packet was answered"


async def test_sslrequest_inside_of_tls(postgres_server: PostgresServer, papers: Papers) -> None:
    async with serving(with_tls(postgres_server, papers, "allow")) as (_, port), await upgraded(port, papers.context()) as peer:
        peer.say(SSL)
        assert await peer.rest() == b""


async def test_a_handshake_that_never_ends(postgres_server: PostgresServer, papers: Papers) -> None:
    settings = bare_settings(postgres_server, tls={"mode": "require", **papers.client_tls}, limits={"startup_timeout": "1s"})
    async with serving(settings) as (_, port):
        for first in (SSL, b"\x16", b"\x16\x03\x01\x02\x00\x01"):
            async with await Peer.open(port) as peer:
                peer.say(first)
                assert await peer.rest() in (b"", b"S")
        async with await upgraded(port, papers.context()) as peer:  # TLS, and then no StartupMessage
            assert await peer.rest() == b""


async def test_cancel_over_tls(postgres_server: PostgresServer, papers: Papers) -> None:
    async with (
        serving(with_tls(postgres_server, papers, "require")) as (_, port),
        await connect(postgres_server, port, sslmode="require") as conn,
    ):
        task = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
        await asleep(postgres_server, conn)
        await conn.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        async with await upgraded(port, papers.context()) as peer:
            peer.say(cancel_request(conn.info.backend_pid, b"\0\0\0\0"))
            assert await peer.rest() == b""
        await conn.execute("SELECT 1")


@pytest.mark.slow
async def test_much_through_tls(postgres_server: PostgresServer, papers: Papers) -> None:
    value = "x" * (20 << 20)
    async with (
        serving(with_tls(postgres_server, papers, "require")) as (_, port),
        await connect(postgres_server, port, sslmode="require") as conn,
    ):
        assert await (await conn.execute("SELECT %s::text", (value,))).fetchone() == (value,)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_min_version(postgres_server: PostgresServer, papers: Papers, version: str) -> None:
    async with serving(with_tls(postgres_server, papers, "require", min_version=version)) as (_, port):
        old = papers.context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        if version == "1.2":
            await let_in(port, old, postgres_server.superuser, direct=False)
        else:
            with pytest.raises(OSError, match=r".*"):
                await let_in(port, old, postgres_server.superuser, direct=False)


# -- contexts ------------------------------------------------------------------------------------------------------------------


def section(pair: Pair, **changes: str) -> ClientTls:
    """Return a section ``tls``."""
    return ClientTls.model_validate({"certificate": str(pair.certificate), "private_key": str(pair.key), **changes})


def test_nothing_is_offered_without_a_certificate(papers: Papers) -> None:
    assert client_context(ClientTls()) is None
    assert client_context(section(papers.proxy, mode="disable")) is None


def test_files_that_cannot_be_used(papers: Papers, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for pair in (
        Pair(tmp_path / "absent.pem", papers.proxy.key),
        Pair(broken, papers.proxy.key),
        Pair(papers.proxy.certificate, papers.server.key),  # the key of another certificate
    ):
        with pytest.raises(ConfigError, match=r"cannot be loaded|is not the key of"):
            client_context(section(pair))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        client_context(section(papers.proxy, mode="verify-client", client_ca=str(broken)))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        upstream_context(Upstream.model_validate({"tls": "verify-full", "ca_file": str(broken)}))


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("rsa-sha384", "sha384"), ("rsa-pss-sha512", "sha512"), ("ecdsa-sha512", "sha512"), ("ed25519", None)]
)
def test_what_a_certificate_binds_to(tmp_path: Path, kind: str, algorithm: str | None) -> None:
    """RFC 5929: the hash of its signature. Where that has none there is nothing that both ends would agree on."""
    der = ssl.PEM_cert_to_DER_cert(self_signed(tmp_path, kind).certificate.read_text())
    assert end_point(der) == (None if algorithm is None else hashlib.new(algorithm, der).digest())


@pytest.mark.parametrize("last", [5, 4])
def test_sha1_and_md5_make_way_for_sha256(tmp_path: Path, last: int) -> None:
    """The last number of sha384WithRSAEncryption becomes that of sha1With… or md5With…; nobody looks at the signature."""
    prefix = bytes.fromhex("2a864886f70d0101")
    der = ssl.PEM_cert_to_DER_cert(self_signed(tmp_path, "rsa-sha384").certificate.read_text())
    weak = der.replace(prefix + b"\x0c", prefix + bytes((last,)))
    assert weak != der
    assert end_point(weak) == hashlib.sha256(weak).digest()


def test_what_is_no_certificate_binds_to_nothing() -> None:
    assert end_point(b"garbage") is None


def test_an_offer_holds_the_certificate_that_clients_see(papers: Papers) -> None:
    offer = client_offer(section(papers.proxy))
    assert offer is not None
    assert offer.certificate == ssl.PEM_cert_to_DER_cert(papers.proxy.certificate.read_text())
    assert not offer.asks_certificate
    asking = client_offer(section(papers.proxy, mode="verify-client", client_ca=str(papers.authority.certificate)))
    assert asking is not None
    assert asking.asks_certificate
    assert client_offer(ClientTls()) is None
    assert client_offer(section(papers.proxy, mode="disable")) is None


def test_what_both_legs_would_agree_to_is_fresh_for_each_connection(papers: Papers) -> None:
    """Apart from ChaCha20, which an OpenSSL in FIPS mode does not have, it is what FIPS approves."""
    found = offered_suites(section(papers.server), Upstream(tls="require"))
    assert {name for name in unapproved_suites(found) if "CHACHA20" not in name} == set()
    assert found.count("ECDHE-RSA-AES256-GCM-SHA384") == 2
    assert offered_suites(ClientTls(mode="disable"), Upstream(tls="disable")) == []


def test_no_tls_below_1_2(papers: Papers) -> None:
    offered = client_context(section(papers.proxy))
    wanted = upstream_context(Upstream(tls="verify-full"))
    for context in (offered, wanted):
        assert context is not None
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
