"""A primary is lost under load, and its standby promoted: what was acknowledged is there, and new sessions find the new primary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.harness.at_work import AtWork
from tests.harness.proxy import ProxyUnderTest, run_cli
from tests.harness.replicas import Replicas, replicas

POLICY = """\
database: clinic
deployment: failover
tables:
  public.patients:
    columns:
      ssn: {type: text, indexes: [ssn], distinct: 1000000}
"""


@pytest.fixture
def pair() -> Iterator[Replicas]:
    with replicas() as pair:
        yield pair


@pytest.fixture
def proxy(pair: Replicas, tmp_path: Path) -> Iterator[ProxyUnderTest]:
    pair.primary.create_database("clinic")
    with pair.primary.connect("clinic") as conn:
        conn.execute("CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE)")
    port = free_port()
    addresses = f"['127.0.0.1:{pair.primary.port}', '127.0.0.1:{pair.standby.port}']"
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "phiproxy.yaml").write_text(
        f"listen: 127.0.0.1:{port}\nupstream: {{address: {addresses}, target: primary, tls: disable}}\n"
        "service: {user: postgres}\nkeys: {kek: 'local:kek.json'}\nmetrics: null\nlog: {format: json}\n"
    )
    env = {"PHIPROXY_SERVICE_PASSWORD": pair.own.password}
    config = tmp_path / "phiproxy.yaml"
    run_cli("keys", "init", "-c", str(config), env=env, check=True)
    ddl = run_cli("ddl", "-c", str(config), env=env, check=True).stdout
    with pair.primary.connect("clinic") as conn:
        conn.execute(ddl.encode())
    with ProxyUnderTest(config, port, tmp_path / "log", env) as proxy:
        yield proxy


class Load(AtWork):
    """Writers that insert numbers one after the other, each through sessions of its own, and remember what was acknowledged."""

    def __init__(self, dsn: str, writers: int = 3) -> None:
        self.dsn = dsn
        self.acknowledged: list[int] = []
        self.unexpected: list[str] = []
        self.states: list[str | None] = []
        super().__init__(*(partial(self._write, number) for number in range(writers)))

    def _write(self, first: int) -> None:
        number = first * 1_000_000
        while not self._stop.is_set():
            try:
                with psycopg.connect(self.dsn, autocommit=True, connect_timeout=30) as conn:
                    while not self._stop.is_set():
                        number += 1
                        conn.execute("INSERT INTO patients VALUES (%s, %s)", (number, f"{number:09}"))
                        self.acknowledged.append(number)
                        self._stop.wait(0.005)
            except psycopg.OperationalError as error:
                self.states.append(error.sqlstate)
                time.sleep(0.05)
            except psycopg.Error as error:
                self.unexpected.append(f"{type(error).__name__}: {error}")
                time.sleep(0.05)


def found(dsn: str, within: float) -> None:
    """Wait until a new session writes."""
    begin = time.monotonic()
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=30) as conn:
                conn.execute("INSERT INTO patients VALUES (-1, 'found') ON CONFLICT (id) DO NOTHING")  # it may have been, unheard
                assert conn.execute("SELECT id FROM patients WHERE ssn = 'found'").fetchall() == [(-1,)]
        except psycopg.OperationalError:
            assert time.monotonic() - begin < within
            time.sleep(0.05)
        else:
            return


@pytest.mark.slow
@pytest.mark.parametrize("in_order", [False, True], ids=["a crash", "a switch-over"])
def test_a_standby_is_promoted_under_load(pair: Replicas, proxy: ProxyUnderTest, in_order: bool) -> None:
    dsn = proxy.dsn("clinic", "postgres", pair.own.password)
    with psycopg.connect(dsn, autocommit=True) as idle, Load(dsn) as load:
        end = time.monotonic() + 120
        while len(load.acknowledged) < 100:
            assert time.monotonic() < end, (load.states, load.unexpected)
            time.sleep(0.05)
        (pair.stop_primary if in_order else pair.kill_primary)()
        pair.promote()
        with pair.standby.connect() as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            conn.execute("SELECT pg_reload_conf()")
        found(dsn, 120)
        before = len(load.acknowledged)
        end = time.monotonic() + 120
        while len(load.acknowledged) == before:
            assert time.monotonic() < end, "the writers have not gone on"
            time.sleep(0.05)
        with pytest.raises(psycopg.OperationalError) as lost:
            idle.execute("SELECT 1")
    assert not load.unexpected
    # The server's own word where it had one; else the proxy's, that it is gone.
    assert lost.value.sqlstate in (("57P01",) if in_order else ("57P01", "57P02", "08006", None))
    with pair.standby.connect("clinic") as conn:
        there = {row[0] for row in conn.execute("SELECT id FROM patients").fetchall()}
    assert set(load.acknowledged) <= there
    with psycopg.connect(dsn) as conn:
        last = load.acknowledged[-1]
        assert conn.execute("SELECT id FROM patients WHERE ssn = %s", (f"{last:09}",)).fetchall() == [(last,)]
