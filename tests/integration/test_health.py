"""Health that is true: what is said of a KEK that does not open, and of a server that is away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.harness.gate import Gate
from tests.harness.oracle import LeakOracle
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.keys.providers.transit import Key
from tests.keys.providers.vault_server import VaultServer

POLICY = """\
database: {database}
deployment: health-test
tables:
  public.patients:
    columns:
      ssn: {type: text, indexes: [ssn], distinct: 100000000}
"""
DDL = "CREATE TABLE patients (id serial PRIMARY KEY, ssn text); CREATE TABLE wards (name text); INSERT INTO wards VALUES ('east')"
READ = b"SELECT ssn FROM patients"


def get(port: int, path: str = "/readyz") -> tuple[int, str]:
    """Status and body; (0, "") while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=240) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(condition: Callable[[], bool], what: Callable[[], str], within: float = 120) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


@dataclass
class Ward:
    """A site whose server can go away and whose KEK file can be spoilt; health on a port of its own."""

    site: Site
    gate: Gate
    health: int
    value: str

    @property
    def kek(self) -> Path:
        return self.site.directory / "kek.json"

    @property
    def log(self) -> str:
        path = self.site.proxy.log_path
        return path.read_text() if path.exists() else ""

    def becomes(self, status: int, words: str) -> None:
        until(lambda: (get(self.health)[0], words in get(self.health)[1]) == (status, True), lambda: str(get(self.health)))

    def metric(self, name: str) -> float:
        lines = get(self.health, "/metrics")[1].splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), -1.0)

    def check(self) -> tuple[int, list[dict[str, str]]]:
        done = run_cli("check", "--json", "-c", str(self.site.config), env=self.site.env)
        return done.returncode, json.loads(done.stdout)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.site.proxy_dsn, autocommit=True, connect_timeout=240)

    @property
    def write(self) -> bytes:
        """A statement that stores the value."""
        return f"INSERT INTO patients (ssn) VALUES ('{self.value}')".encode()

    @property
    def entries(self) -> list[dict[str, object]]:
        """The proxy's log: whatever writes to its standard error, every line is JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def hup(self) -> None:
        assert self.site.proxy.process is not None
        os.kill(self.site.proxy.process.pid, signal.SIGHUP)


@contextlib.contextmanager
def ward_of(server: PostgresServer, directory: Path, more: str = "") -> Iterator[Ward]:
    health = free_port()
    with Gate(server.host, server.port) as gate, open_site(server, directory, policy=POLICY, ddl=DDL, serve=False) as site:
        text = site.config.read_text().replace(f"{site.tap.host}:{site.tap.port}", f"{gate.host}:{gate.port}")
        site.config.write_text(text.replace("metrics: null", f"metrics: {{listen: '127.0.0.1:{health}'}}") + more)
        oracle = LeakOracle(server, site.sealed, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        ward = Ward(site, gate, health, oracle.plant("ssn"))
        yield ward
        assert all(ward.entries)
        oracle.assert_no_leak()


@pytest.fixture
def ward(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Ward]:
    with ward_of(postgres_server, tmp_path) as ward:
        yield ward


def another_kek(ward: Ward, directory: Path) -> None:
    """Put a KEK of somebody else's in the place of the right one, which is kept beside it."""
    shutil.copy2(ward.kek, directory / "right.json")
    shutil.copy(ward.site.config, directory / "other.yaml")
    text = (directory / "other.yaml").read_text().replace("local:kek.json", "local:other.json")
    (directory / "other.yaml").write_text(text.replace("policy.yaml", "other-policy.yaml"))
    database = ward.site.server.create_database()
    try:
        with ward.site.server.connect(database) as conn:
            conn.execute(DDL)
            conn.execute(f'GRANT ALL ON DATABASE "{database}" TO "{ward.site.service}"'.encode())
            conn.execute(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{ward.site.service}"'.encode())
        (directory / "other-policy.yaml").write_text(POLICY.replace("{database}", database))
        run_cli("keys", "init", "-c", str(directory / "other.yaml"), env=ward.site.env, check=True)
    finally:
        ward.site.server.drop_database(database)
    os.replace(directory / "other.json", ward.kek)


def spoil(ward: Ward, how: str) -> None:
    if how == "missing":
        ward.kek.rename(ward.site.directory / "right.json")
    elif how == "mode":
        shutil.copy2(ward.kek, ward.site.directory / "right.json")
        ward.kek.chmod(0o644)
    else:
        another_kek(ward, ward.site.directory)


SPOILT = [("missing", "cannot be read: No such file"), ("mode", "its mode is 0644"), ("wrong", "does not open")]


@pytest.mark.parametrize(("how", "words"), SPOILT)
def test_check_and_serve_name_a_kek_that_does_not_open(ward: Ward, how: str, words: str) -> None:
    code, found = ward.check()
    assert code == 0, found
    assert [f["text"] for f in found if f["topic"] == "keys"] == [f"all 3 root keys open under local:{ward.kek}"]
    spoil(ward, how)
    code, found = ward.check()
    assert code == 1
    told = [f["text"] for f in found if (f["level"], f["topic"]) == ("error", "keys")]
    assert told
    assert all(words in text for text in told), told
    done = run_cli("serve", "-c", str(ward.site.config), env=ward.site.env)
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_refuses_a_kek_that_does_not_open_and_goes_on_as_before(
    postgres_server: PostgresServer, tmp_path: Path, workers: int
) -> None:
    with ward_of(postgres_server, tmp_path, f"workers: {workers}\n") as ward:
        ward.site.proxy.start()
        ward.becomes(200, "ready")
        with ward.connect() as conn:
            conn.execute(ward.write)
            for how, words in SPOILT:
                before = ward.log.count("reload failed")
                spoil(ward, how)
                ward.hup()
                until(lambda: ward.log.count("reload failed") > before, lambda: ward.log[-2000:])  # noqa: B023
                said = [line for line in ward.log.splitlines() if "reload failed" in line]
                assert words in said[-1], ward.log[-2000:]
                assert conn.execute(READ).fetchone() == (ward.value,)
                os.replace(ward.site.directory / "right.json", ward.kek)
            assert '"reloaded"' not in ward.log
            ward.hup()
            until(lambda: '"reloaded"' in ward.log, lambda: ward.log[-2000:])
            assert conn.execute(READ).fetchone() == (ward.value,)


@pytest.mark.parametrize("workers", [1, 2])
def test_readyz_is_503_while_postgresql_is_away(postgres_server: PostgresServer, tmp_path: Path, workers: int) -> None:
    with ward_of(postgres_server, tmp_path, f"workers: {workers}\n") as ward:
        ward.site.proxy.start()
        ward.becomes(200, "ready")
        ward.gate.shut()
        ward.becomes(503, "not ready: PostgreSQL does not answer")
        assert get(ward.health, "/livez")[0] == 200
        code, found = ward.check()
        assert code == 1
        assert any(f["level"] == "error" and "cannot connect as service.user" in f["text"] for f in found)
        ward.gate.open()
        ward.becomes(200, "ready")
        assert '"not ready"' in ward.log
        assert '"ready again"' in ward.log


def test_a_login_by_scram_is_told_at_once_that_postgresql_is_away(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with ward_of(postgres_server, tmp_path, "auth: {mode: scram}\n") as ward:
        with postgres_server.connect(ward.site.sealed) as conn:
            grant = "GRANT SELECT (rolname, rolpassword, rolvaliduntil) ON pg_catalog.pg_authid TO"
            conn.execute(f'{grant} "{ward.site.service}"'.encode())
        ward.site.proxy.start()
        with ward.connect() as conn:
            conn.execute(ward.write)
        ward.gate.shut()
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError) as refused:
                ward.connect()
            told = str(refused.value)
            assert "the PostgreSQL server does not answer" in told
            assert "err-upstream" in told
            assert "err-keys" not in told
        ward.gate.open()
        with ward.connect() as conn:
            assert conn.execute(READ).fetchone() == (ward.value,)


@pytest.fixture
def vaulted(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[tuple[Ward, VaultServer]]:
    """The same with the KEK in a Vault; roots are unwrapped again every two seconds."""
    vault = VaultServer()
    vault.start()
    vault.transit.keys["phi"] = Key("phi", derived=True)
    try:
        with ward_of(postgres_server, tmp_path) as ward:
            options = f"address={vault.address}&role_id=env:ROLE&secret_id=env:SECRET"
            kek = f'kek: "vault:transit/phi?{options}"\n  cache: {{ttl: 2s, max_stale: 60s}}'
            ward.site.config.write_text(ward.site.config.read_text().replace("kek: local:kek.json", kek))
            ward.site.env |= {"ROLE": vault.role_id, "SECRET": vault.secret_id}
            ward.site.cli("keys", "rewrap", "--from", "local:kek.json", "--drop-old")
            yield ward, vault
    finally:
        vault.stop()


def test_an_outage_of_the_provider_shows_and_ends_and_no_reload_throws_the_cache_away(vaulted: tuple[Ward, VaultServer]) -> None:
    ward, vault = vaulted
    ward.site.proxy.start()
    ward.becomes(200, "ready")
    with ward.connect() as conn:
        conn.execute(ward.write)
        assert conn.execute(READ).fetchone() is not None
        vault.status = 503
        ward.becomes(503, "not ready: the key provider does not answer")
        assert ward.check()[0] == 1
        ward.hup()
        until(lambda: "reload failed" in ward.log, lambda: ward.log[-2000:])
        assert conn.execute(READ).fetchone() == (ward.value,), "what is cached goes on opening values"
        vault.status = None
        ward.becomes(200, "ready")


def test_a_denied_unwrap_shows_is_logged_and_counted(vaulted: tuple[Ward, VaultServer]) -> None:
    ward, vault = vaulted
    ward.site.proxy.start()
    ward.becomes(200, "ready")
    with ward.connect() as conn:
        conn.execute(ward.write)
        began = time.monotonic()
        vault.forbidden.add("decrypt/phi")
        ward.becomes(503, "not ready: the KEK does not open the registry's root keys")

        def refused() -> bool:
            try:
                conn.execute(READ)
            except psycopg.Error as error:
                return error.sqlstate == "58000"
            return False

        until(refused, lambda: ward.log[-2000:])
        until(lambda: ward.metric('phiproxy_kek_unwraps_total{result="denied"}') > 0, lambda: get(ward.health, "/metrics")[1])
        assert ward.metric('phiproxy_kek_unwraps_total{result="ok"}') > 0
    lines = [json.loads(line) for line in ward.log.splitlines() if "the key provider does not unwrap a root key" in line]
    assert lines
    assert len(lines) <= 2 * (1 + (time.monotonic() - began) // 60), "one line a minute for each root key"
    assert lines[0]["database"] == ward.site.sealed


def test_a_data_key_that_the_registry_does_not_have_is_logged_and_counted(ward: Ward) -> None:
    """As after an older registry was restored."""
    ward.site.proxy.start()
    with ward.connect() as conn:
        conn.execute(ward.write)
    with ward.site.server.connect(ward.site.sealed) as owner:
        owner.execute("UPDATE patients SET ssn = set_byte(ssn, 5, get_byte(ssn, 5) # 255)")
    with ward.connect() as conn:
        for _ in range(3):
            with pytest.raises(psycopg.Error) as refused:
                conn.execute(READ)
            assert refused.value.sqlstate == "XX001"
    name = 'phiproxy_data_keys_refused_total{reason="not known"}'
    until(lambda: ward.metric(name) >= 1, lambda: get(ward.health, "/metrics")[1])
    lines = [json.loads(line) for line in ward.log.splitlines() if "names a data key that is not used" in line]
    assert [(line["why"], len(line["data_key"])) for line in lines] == [("not known", 8)]


def test_a_provider_that_is_away_at_the_start(vaulted: tuple[Ward, VaultServer]) -> None:
    """Nothing is cached, and the registry cannot be verified: whoever started the proxy is told, and starts it again."""
    ward, vault = vaulted
    vault.failing.add("decrypt/phi")
    done = run_cli("serve", "-c", str(ward.site.config), env=ward.site.env)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["event"] == "cannot start"
    vault.failing.clear()
    ward.site.proxy.start()
    ward.becomes(200, "ready")
