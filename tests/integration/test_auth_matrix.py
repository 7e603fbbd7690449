"""The matrix of issue 3: client TLS x server TLS x method x driver x mode, each cell as PostgreSQL itself would have it.

What is expected is not written down here but asked of the server: the same client, with the same settings, connects to it directly.
In mode ``scram`` that is a database for which pg_hba.conf says scram-sha-256 to everybody.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import sql

from phiproxy.policy.settings import Settings
from tests.harness.oracle import base64_spellings, spellings
from tests.harness.server import PostgresServer
from tests.harness.tap import Tap
from tests.harness.waiting import until
from tests.net.certificates import Papers, tls_server
from tests.net.serving import bare_settings, serving

METHODS = ("trust", "password", "md5", "scram")
DRIVERS = ("libpq prefer", "libpq require", "asyncpg")
# client leg: section tls of the proxy, sslmode of libpq
CLIENT_LEGS = {
    "off": (None, "disable"),
    "on": ("allow", "require"),
    "required": ("require", "verify-full"),
    "certificate": ("verify-client", "verify-full"),
}
SERVER_LEGS = {"off": "disable", "on": "require", "verify-full": "verify-full"}
ONLY_SCRAM = "only_scram"
HBA = f"""\
local all all trust
host {ONLY_SCRAM} all all scram-sha-256
host all m_trust all trust
host all m_password all password
host all m_md5 all md5
host all all all scram-sha-256
"""
NOT_OFFERED = "channel binding is required, but server did not offer an authentication method that supports channel binding"


@dataclass(frozen=True)
class Stage:
    """The server with its roles, all with one password."""

    server: PostgresServer
    papers: Papers
    password: str


def trusts(server: PostgresServer) -> bool:
    try:
        psycopg.connect(host=server.host, port=server.port, user="m_trust", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server with TLS whose pg_hba.conf asks each role for something else."""
    papers = Papers.made(tmp_path_factory.mktemp("papers"))
    password = f"PHI-{secrets.token_hex(8)} \u00aa\u2168"  # SASLprep makes it another string
    with tls_server(papers.server) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", "the service's own")
        with server.connect() as conn:
            for role in (*METHODS, "service"):
                conn.execute("SELECT set_config('password_encryption', %s, false)", ("md5" if role == "md5" else "scram-sha-256",))
                secret = "the service's own" if role == "service" else password
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(f"m_{role}"), sql.Literal(secret)))
            conn.execute("GRANT SELECT (rolname, rolpassword, rolvaliduntil) ON pg_authid TO m_service")
            server.create_database(ONLY_SCRAM)
            row = conn.execute("SHOW hba_file").fetchone()
            assert row is not None
            Path(str(row[0])).write_text(HBA)
            conn.execute("SELECT pg_reload_conf()")
        until(lambda: trusts(server), "the server has not read its files")
        yield Stage(server, papers, password)


Outcome = str


async def outcome(stage: Stage, port: int, leg: str, driver: str, role: str, password: str, database: str = "postgres") -> Outcome:
    """Connect and run a query; return who is there, or what was said."""
    try:
        if driver == "asyncpg":
            return await _by_asyncpg(stage, port, leg, role, password, database)
        return await _by_libpq(stage, port, leg, driver.split()[1], role, password, database)
    except psycopg.OperationalError as error:
        return str(error).rpartition("FATAL:  ")[2].rpartition(" failed: ")[2].strip()
    except asyncpg.PostgresError as error:
        return str(error)


async def _by_libpq(stage: Stage, port: int, leg: str, binding: str, role: str, password: str, database: str) -> Outcome:
    options: dict[str, Any] = {"sslmode": CLIENT_LEGS[leg][1], "channel_binding": binding, "gssencmode": "disable"}
    if leg != "off":
        options["sslrootcert"] = str(stage.papers.authority.certificate)
    if leg == "certificate":
        options |= {"sslcert": str(stage.papers.client.certificate), "sslkey": str(stage.papers.client.key)}
    conn = await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=port, user=role, password=password, dbname=database, connect_timeout=240, **options
    )
    async with conn:
        row = await (await conn.execute("SELECT current_user || ' is there'")).fetchone()
    assert row is not None
    return str(row[0])


async def _by_asyncpg(stage: Stage, port: int, leg: str, role: str, password: str, database: str) -> Outcome:
    context: ssl.SSLContext | bool = False
    if leg != "off":
        context = stage.papers.context(client=stage.papers.client if leg == "certificate" else None)
    conn = await asyncpg.connect(
        host="127.0.0.1", port=port, user=role, password=password, database=database, ssl=context, timeout=240
    )
    try:
        return str(await conn.fetchval("SELECT current_user || ' is there'"))
    finally:
        await conn.close()


Cell = tuple[str, str, str, bool]  # leg of the client, driver, method, whether the password is right


@pytest.fixture(scope="module")
def directly(stage: Stage) -> Mapping[tuple[str, Cell], Outcome]:
    """What the server itself says to every client, by database and cell."""

    async def ask() -> dict[tuple[str, Cell], Outcome]:
        found = {}
        for database in ("postgres", ONLY_SCRAM):
            for leg, driver, method, right in itertools.product(("off", "on"), DRIVERS, METHODS, (True, False)):
                password = stage.password if right else "wrong"
                said = await outcome(stage, stage.server.port, leg, driver, f"m_{method}", password, database)
                found[database, (leg, driver, method, right)] = said
        return found

    return asyncio.run(ask())


def settings_of(stage: Stage, mode: str, client: str, server: str, upstream_port: int) -> Settings:
    """Return the proxy's settings for two legs and a mode. Relaying over TLS on both legs needs the server's own certificate."""
    pair = stage.papers.server if mode == "passthrough" else stage.papers.proxy
    tls_mode = CLIENT_LEGS[client][0]
    tls = {}
    if tls_mode is not None:
        tls = {"mode": tls_mode, "certificate": str(pair.certificate), "private_key": str(pair.key)}
    if client == "certificate":
        tls["client_ca"] = str(stage.papers.authority.certificate)
    upstream = {
        "address": f"127.0.0.1:{upstream_port}",
        "tls": SERVER_LEGS[server],
        "ca_file": str(stage.papers.authority.certificate),
    }
    service = {"user": "m_service", "address": f"{stage.server.host}:{stage.server.port}"}
    return bare_settings(stage.server, tls=tls, upstream=upstream, auth={"mode": mode}, service=service)


def expected(directly: Mapping[tuple[str, Cell], Outcome], mode: str, server: str, cell: Cell) -> Outcome:
    """Say what a cell is to have, from what the server says to such a client directly."""
    leg, driver, method, right = cell
    asked = (leg if leg == "off" else "on", driver, method, right)
    if mode == "passthrough":
        said = directly["postgres", asked]
        # The server, which has no TLS with the proxy, does not offer to bind.
        return NOT_OFFERED if driver == "libpq require" and leg != "off" and server == "off" and method == "scram" else said
    said = directly[ONLY_SCRAM, asked]
    if method == "password" and said.endswith("is there"):
        return "phiproxy: the server asks for the password in clear"
    return said


@pytest.mark.parametrize("mode", ["passthrough", "scram"])
@pytest.mark.parametrize("server", list(SERVER_LEGS))
@pytest.mark.parametrize("client", list(CLIENT_LEGS))
async def test_every_cell(
    stage: Stage,
    directly: Mapping[tuple[str, Cell], Outcome],
    capsys: pytest.CaptureFixture[str],
    mode: str,
    server: str,
    client: str,
) -> None:
    wrong = []
    with Tap(stage.server.host, stage.server.port) as tap:
        async with serving(settings_of(stage, mode, client, server, tap.port)) as (_, port):
            for driver, method, right in itertools.product(DRIVERS, METHODS, (True, False)):
                password = stage.password if right else "wrong"
                said = await outcome(stage, port, client, driver, f"m_{method}", password)
                wanted = expected(directly, mode, server, (client, driver, method, right))
                if not said.startswith(wanted):
                    wrong.append(f"{driver}, {method}, {'right' if right else 'wrong'} password: {said!r}, not {wanted!r}")
            if client in ("required", "certificate"):
                said = await outcome(stage, port, "off", "libpq prefer", "m_scram", stage.password)
                if "TLS only" not in said:
                    wrong.append(f"in clear: {said!r}")
            if client == "certificate":
                said = await outcome(stage, port, "required", "libpq prefer", "m_scram", stage.password)
                if said != "connection requires a valid client certificate":
                    wrong.append(f"without a certificate: {said!r}")
        assert not wrong, "\n".join(wrong)
        said_by_proxy = "".join(capsys.readouterr())
        assert not holds(stage.password, said_by_proxy.encode())
        if mode == "scram":
            assert not any(holds(stage.password, sent) for sent in tap.upstream()), "the password went to the server"
            assert tap.connections >= 4
        elif server == "off":
            assert any(holds(stage.password, sent) for sent in tap.upstream()), "the oracle does not see pg_hba.conf's password"


def holds(password: str, haystack: bytes) -> bool:
    """Tell whether a password, or its recognizable part, is in these bytes in any spelling."""
    lowered = haystack.lower()
    core = password.partition(" ")[0]
    return any(needle in lowered for needle in spellings(core)) or any(needle in haystack for needle in base64_spellings(core))


def test_the_expectations_are_not_all_alike(directly: Mapping[tuple[str, Cell], Outcome]) -> None:
    """The direct connections give what the manual says, so that a broken stage cannot make everything pass."""
    for leg in ("off", "on"):
        for driver in ("libpq prefer", "asyncpg"):
            for method in METHODS:
                assert directly["postgres", (leg, driver, method, True)] == f"m_{method} is there"
                failed = f'password authentication failed for user "m_{method}"'
                assert directly["postgres", (leg, driver, method, False)] == ("m_trust is there" if method == "trust" else failed)
                # An MD5 hash is no SCRAM verifier.
                assert directly[ONLY_SCRAM, (leg, driver, method, False)] == failed
                assert directly[ONLY_SCRAM, (leg, driver, method, True)] == (failed if method == "md5" else f"m_{method} is there")
    assert directly["postgres", ("on", "libpq require", "scram", True)] == "m_scram is there"
    assert "channel binding" in directly["postgres", ("off", "libpq require", "scram", True)]
    assert "channel binding" in directly["postgres", ("on", "libpq require", "md5", True)]
