"""Tables are switched, and indexes filled anew, at the primary: sessions at a standby that is behind never see the wrong ones."""

from __future__ import annotations

import asyncio
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import psycopg

from phiproxy.demo.postgres import free_port
from phiproxy.jobs.throttle import Limits, Throttle
from tests.harness.at_work import PAUSE, AtWork
from tests.harness.proxy import ProxyUnderTest, command, environment, run_cli
from tests.harness.replicas import replicas
from tests.harness.server import PostgresServer

POLICY = """\
database: clinic
deployment: standby
tables:
  public.patients:
    columns:
      ssn: {type: text, indexes: [ssn], distinct: 1000000}
"""
DDL = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn text);
INSERT INTO patients SELECT n, 'P' || n FROM generate_series(1, 300) n;
"""
BEHIND = "400ms"
ROTATE = ["keys", "rotate", "--index", "public.patients.ssn", "--json"]


class Reader(AtWork):
    """Sessions that search and read; what they get is what it was."""

    def __init__(self, dsn: str) -> None:
        self.done = 0
        self.wrong: list[str] = []
        super().__init__(partial(self._read, dsn, False), partial(self._read, dsn, True))

    def _read(self, dsn: str, in_transactions: bool) -> None:
        number = 0
        try:
            with psycopg.connect(dsn, autocommit=True, prepare_threshold=2) as conn:
                while not self._stop.is_set():
                    number = number % 300 + 1
                    if in_transactions:
                        conn.execute("BEGIN")
                    rows = conn.execute("SELECT id, ssn FROM patients WHERE ssn = %s", (f"P{number}",)).fetchall()
                    if rows != [(number, f"P{number}")]:
                        self.wrong.append(f"{number}: {rows}")
                    if in_transactions:
                        conn.execute("COMMIT")
                    self.done += 1
                    self._stop.wait(PAUSE)
        except psycopg.Error as error:
            self.wrong.append(f"{type(error).__name__}: {error}")


def test_readers_at_a_standby(tmp_path: Path) -> None:
    with replicas(synchronous=False) as pair:
        pair.primary.create_database("clinic")
        with pair.primary.connect("clinic") as conn:
            conn.execute(DDL)
        port = free_port()
        addresses = f"['127.0.0.1:{pair.primary.port}', '127.0.0.1:{pair.standby.port}']"
        (tmp_path / "policy.yaml").write_text(POLICY)
        config, env = tmp_path / "phiproxy.yaml", {"PHIPROXY_SERVICE_PASSWORD": pair.own.password}
        config.write_text(
            f"listen: 127.0.0.1:{port}\nupstream: {{address: {addresses}, target: standby, tls: disable}}\n"
            "service: {user: postgres}\nkeys: {kek: 'local:kek.json'}\nmetrics: null\n"
        )
        run_cli("keys", "init", "-c", str(config), env=env, check=True)
        dsn = f"postgresql://{pair.primary.superuser}:{pair.own.password}@127.0.0.1:{port}/clinic"
        with ProxyUnderTest(config, port, tmp_path / "log", env):
            with pair.standby.connect("postgres") as standby:
                standby.execute(f"ALTER SYSTEM SET recovery_min_apply_delay TO '{BEHIND}'")
                standby.execute("SELECT pg_reload_conf()")
            with psycopg.connect(dsn, autocommit=True) as conn:
                assert conn.execute("SELECT pg_is_in_recovery()").fetchall() == [(True,)]
            for given in (["encrypt"], ROTATE, ["decrypt", "public.patients", "--reorder"]):
                with Reader(dsn) as reader:
                    if given == ROTATE:
                        _rotate_behind(pair.standby, command(*given, "-c", str(config)), environment(env))
                    else:
                        run_cli(*given, "-c", str(config), env=env, check=True)
                    with pair.primary.connect("clinic") as conn:
                        stored = conn.execute("SELECT DISTINCT pg_typeof(ssn)::text FROM patients").fetchall()
                    assert stored == [("text" if given[0] == "decrypt" else "bytea",)]
                    before = reader.done
                    while reader.done < before + 6 and not reader.wrong:
                        reader._stop.wait(0.05)
                assert reader.wrong == [], given
            asyncio.run(_told_of_the_standby(pair.primary))
        with pair.standby.connect("postgres") as standby:  # and one that begins while no proxy is there
            standby.execute("SELECT pg_wal_replay_pause()")
            run_cli("encrypt", "-c", str(config), env=env, check=True)
            with ProxyUnderTest(config, port, tmp_path / "log", env), ThreadPoolExecutor() as pool:
                reading = pool.submit(_first_row, dsn)
                assert wait([reading], timeout=1).not_done, "the standby's table is in clear yet"
                standby.execute("SELECT pg_wal_replay_resume()")
                assert reading.result(timeout=240) == [(7, "P7")]


def _rotate_behind(standby: PostgresServer, arguments: list[str], env: dict[str, str]) -> None:
    """Give an index another key while a standby replays nothing: nobody searches by it before the standby has its tags."""
    with standby.connect("postgres") as conn:
        conn.execute("SELECT pg_wal_replay_pause()")
        with subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any("or standbys that they read at" in line for line in process.stdout), "it has waited for the standby"
            conn.execute("SELECT pg_wal_replay_resume()")
            assert process.stdout.read()
    assert process.returncode == 0


async def _told_of_the_standby(primary: PostgresServer) -> None:
    """A job waits while a standby is behind for longer than it may be: this one is by ``BEHIND`` where something is written."""
    async with await psycopg.AsyncConnection.connect(primary.dsn("clinic"), autocommit=True) as conn:
        patient, strict = (Throttle(conn, Limits(lag=lag), lambda _: None) for lag in (60.0, 0.01))
        told = ""
        while not told:
            await conn.execute("UPDATE patients SET id = id WHERE id = 7")
            assert await patient._why(("public", "patients")) == ""
            told = await strict._why(("public", "patients"))
            await asyncio.sleep(0.02)
    assert re.fullmatch(r"standby \S+ is [0-9]+ s behind", told)


def _first_row(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute("SELECT id, ssn FROM patients WHERE ssn = 'P7'").fetchall()
