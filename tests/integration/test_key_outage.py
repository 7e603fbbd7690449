"""A key provider in trouble, under a running proxy: what still works, what fails and how, and that it ends by itself."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until
from tests.keys.providers.transit import Key
from tests.keys.providers.vault_server import Token, VaultServer

POLICY = """\
database: {database}
deployment: outage-test
tables:
  public.patients:
    columns:
      ssn: {type: text, indexes: [ssn], distinct: 100000000}
"""
DDL = "CREATE TABLE patients (id serial PRIMARY KEY, ssn text); CREATE TABLE wards (name text); INSERT INTO wards VALUES ('east')"
TTL, MAX_STALE = 2.0, 6.0


@dataclass
class Bench:
    """A site whose KEK is in a Vault that the test can put in trouble."""

    site: Site
    vault: VaultServer

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.site.proxy_dsn, autocommit=True)

    def fails(self, statement: bytes) -> str | None:
        """Return the SQLSTATE that a statement fails with in a session of its own, or None."""
        with self.connect() as conn:
            try:
                conn.execute(statement)
            except psycopg.Error as error:
                return error.sqlstate
        return None

    def wait_until(self, statement: bytes, state: str | None, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := self.fails(statement)) != state:
            assert time.monotonic() < end, f"{now} and not {state} after {seconds} s"
            time.sleep(0.1)


READ, WRITE = b"SELECT ssn FROM patients", b"INSERT INTO patients (ssn) VALUES ('9')"


@pytest.fixture
def bench(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    vault = VaultServer()
    vault.start()
    vault.transit.keys["phi"] = Key("phi", derived=True)
    try:
        with open_site(postgres_server, tmp_path_factory.mktemp("outage"), policy=POLICY, ddl=DDL, serve=False) as site:
            options = f"address={vault.address}&role_id=env:ROLE&secret_id=env:SECRET"
            kek = f'kek: "vault:transit/phi?{options}"\n  cache: {{ttl: {TTL:g}s, max_stale: {MAX_STALE:g}s}}'
            site.config.write_text(site.config.read_text().replace("kek: local:kek.json", kek))
            site.env |= {"ROLE": vault.role_id, "SECRET": vault.secret_id}
            site.cli("keys", "rewrap", "--from", "local:kek.json", "--drop-old")
            site.proxy.start()
            found = Bench(site, vault)
            assert found.fails(WRITE) is None
            yield found
    finally:
        vault.stop()


def test_an_outage_lets_reads_go_on_for_a_while_and_writes_fail_and_ends_by_itself(bench: Bench) -> None:
    assert bench.fails(READ) is None
    bench.vault.status = 503
    said = "values were read under a doubtful key"
    while bench.fails(READ) is None and said not in bench.site.proxy.log_path.read_text():
        pass  # there are some seconds in which they are
    until(lambda: said in bench.site.proxy.log_path.read_text(), "it does not say so")
    bench.wait_until(WRITE, "57P03", TTL + 120)
    bench.wait_until(READ, "57P03", MAX_STALE + 120)
    assert bench.fails(b"SELECT name FROM wards") is None
    bench.vault.status = None
    bench.wait_until(READ, None, 120)
    bench.wait_until(WRITE, None, 120)


def test_reads_under_a_stale_key_are_served_until_max_stale(bench: Bench) -> None:
    assert bench.fails(READ) is None
    bench.vault.status = 429
    bench.wait_until(WRITE, "57P03", TTL + 120)
    began = time.monotonic()
    served = 0
    while bench.fails(READ) is None and time.monotonic() - began < MAX_STALE + 120:
        served += 1
        time.sleep(0.1)
    assert time.monotonic() - began < MAX_STALE + 120, "a stale key was served for ever"
    bench.vault.status = None
    bench.wait_until(READ, None, 120)


@pytest.mark.parametrize("trouble", ["policy", "key", "login"])
def test_a_denial_ends_everything_at_once_and_no_more_than_that(bench: Bench, trouble: str) -> None:
    """Forbidden by a policy, a version shut at the provider, a token that ended and a login that is refused."""
    assert bench.fails(READ) is None
    if trouble == "policy":
        bench.vault.forbidden.add("decrypt/phi")
    elif trouble == "key":
        bench.vault.transit.keys["phi"].min_decryption = 2
        bench.vault.transit.keys["phi"].versions[2] = b"2" * 32
    else:
        bench.vault.tokens, bench.vault.secret_id = {"root": Token()}, "changed"
    bench.wait_until(READ, "58000", TTL + 120)
    assert bench.fails(WRITE) == "58000"
    assert bench.fails(b"SELECT name FROM wards") is None
    if trouble == "policy":
        bench.vault.forbidden.clear()
    elif trouble == "key":
        bench.vault.transit.keys["phi"].min_decryption = 1
    else:
        bench.vault.secret_id = bench.site.env["SECRET"]
    bench.wait_until(READ, None, 120)
    bench.wait_until(WRITE, None, 120)


def test_a_slow_provider_slows_nobody_who_does_not_need_it(bench: Bench) -> None:
    """Two seconds a call: sessions with other statements, and with keys that are cached, see nothing of it."""
    took: list[float] = []
    ended = threading.Event()

    def bystander() -> None:
        with bench.connect() as conn:
            while not ended.is_set():
                began = time.monotonic()
                conn.execute(b"SELECT name FROM wards")
                took.append(time.monotonic() - began)
                time.sleep(0.01)

    thread = threading.Thread(target=bystander)
    bench.vault.delay = 2.0
    thread.start()
    try:
        end = time.monotonic() + 3 * TTL
        while time.monotonic() < end:
            assert bench.fails(READ) is None
    finally:
        ended.set()
        thread.join()
    p99 = statistics.quantiles(took, n=100)[98]
    assert p99 < 2.0, f"a bystander waited {p99:.2f} s for a key that it does not need"


def test_a_token_that_runs_out_is_replaced_while_the_proxy_runs(bench: Bench) -> None:
    bench.vault.tokens = {"root": Token()}
    bench.wait_until(READ, None, TTL + 120)
    time.sleep(TTL + 0.5)
    assert bench.fails(READ) is None


def test_a_stolen_registry_and_a_restored_backup(bench: Bench) -> None:
    """Without the KEK a dump opens nothing; an old table beside a rotated registry opens; a key that is gone is named."""
    site = bench.site
    with site.server.connect(site.sealed) as conn:
        ((value,),) = conn.execute("SELECT encode(ssn, 'hex') FROM patients LIMIT 1").fetchall()
    dump = site.directory / "dump.json"
    site.cli("keys", "export", "-o", str(dump))
    bench.vault.forbidden.add("decrypt/phi")
    assert site.cli("open", str(value), "--registry", str(dump), check=False) == ""
    bench.vault.forbidden.clear()
    site.cli("keys", "rotate")
    site.cli("keys", "rotate", "--root")
    assert site.cli("open", str(value)) == "9\n"
    assert site.cli("open", str(value), "--registry", str(dump)) == "9\n"
    with site.server.connect(site.sealed) as conn:
        conn.execute("DELETE FROM phiproxy.data_key WHERE id = %s", (int(str(value)[10:18], 16),))
    site.proxy.kill()
    site.proxy.start()
    with bench.connect() as conn, pytest.raises(psycopg.Error, match=f"data key {int(str(value)[10:18], 16)} is not known"):
        conn.execute(READ)
