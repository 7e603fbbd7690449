"""Whatever dies while a table is encrypted and decrypted again: nothing is lost, and the job goes on from there to its end.

A few faults of each kind; with PHIPROXY_EXPLORE fifty, at other moments each time.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.harness.at_work import PAUSE, AtWork
from tests.harness.mortal_server import MortalServer, mortal_server
from tests.harness.proxy import run_cli
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import EXPLORING, Fault, Job, done_despite, killed
from tests.integration.test_encrypt import filled_site, raw_columns, rows_of

FAULTS = 50 if EXPLORING else 4
ROWS = 600
NAMED = "SELECT id, ssn, name, born, score, city FROM patients ORDER BY id"
STEPS = (["encrypt"], ["decrypt", "public.patients", "--reorder"])


@pytest.fixture(scope="module")
def mortal() -> Iterator[MortalServer]:
    with mortal_server() as mortal:
        yield mortal


class Writers(AtWork):
    """Sessions through the proxy that write rows of their own, connect again when they are lost, and know what was acknowledged.

    ``stored`` are the values that each row may have at the end: the last one that was acknowledged, and one of which nobody knows.
    """

    patience = 120.0

    LANES = 2

    def __init__(self, site: Site) -> None:
        self._dsn = site.proxy_dsn
        super().__init__(*(partial(self._run, lane) for lane in range(self.LANES)))
        self.stored: dict[int, set[str]] = {n: {f"secret-{n}"} for n in range(1, ROWS + 1)}
        self.failures: list[str] = []
        self.acknowledged = 0

    def _run(self, lane: int) -> None:
        chance = random.Random(lane)
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=30) as conn:
                    conn.prepare_threshold = 1
                    while not self._stop.is_set():
                        self._write(conn, 1 + lane + self.LANES * chance.randrange(ROWS // self.LANES), chance.randrange(10**9))
                        self._stop.wait(PAUSE)
            except psycopg.OperationalError:
                time.sleep(0.05)  # what it needs is gone, and comes again
            except psycopg.Error as error:
                self.failures.append(f"{error.sqlstate}: {error}")

    def _write(self, conn: psycopg.Connection[tuple[object, ...]], row: int, number: int) -> None:
        value = f"secret-{row}-{number}"
        self.stored[row].add(value)
        conn.execute("UPDATE patients SET ssn = %s WHERE id = %s", (value, row))
        self.stored[row] = {value}
        self.acknowledged += 1
        read = conn.execute("SELECT id FROM patients WHERE ssn = %s", (value,)).fetchall()
        if read != [(row,)]:
            self.failures.append(f"a search for what row {row} has gave {read}")


def converted_despite(site: Site, fault: Fault, between: Callable[[], object]) -> None:
    """Encrypt and decrypt while the fault happens, until it has happened often enough; then all is compared."""
    chance, faults, step = random.Random() if EXPLORING else random.Random(7), 0, 0
    with Writers(site) as writers:
        while faults < FAULTS or step % 2:
            more = (FAULTS - faults + 1) // 2 if step == 0 else FAULTS - faults
            faults += done_despite(site, STEPS[step % 2], fault, more, chance, between=between)
            step += 1
        until(lambda: writers.acknowledged > 25 or bool(writers.failures), "they have not written")
    assert writers.failures == []
    for way in ("decrypted", "encrypted"):
        rows = rows_of(site.proxy_dsn, NAMED)
        assert [row for row in rows if row[1] not in writers.stored[int(str(row[0]))]] == [], way
        without = [(row[0], *row[2:]) for row in rows]
        assert without == [(row[0], *row[2:]) for row in rows_of(site.plain_dsn, NAMED)]
        assert not [name for name in raw_columns(site) if name.startswith("phi_")]
        if way == "decrypted":
            site.cli("encrypt")
    assert "guards and tag indexes are there" in site.cli("check", check=False)
    leftover = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert rows_of(site.server.dsn(site.sealed), leftover) == [(0,)]
    assert rows_of(site.server.dsn(site.sealed), "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%phi%'") == [(0,)]


def answered_despite(site: Site, fault: Fault) -> None:
    """Answer for the data key of the encrypted table while the fault happens: nothing is under it then, and all is as it was."""
    before, under = rows_of(site.proxy_dsn, NAMED), "SELECT DISTINCT encode(substring(ssn, 6, 4), 'hex') FROM patients"
    ((key,),) = rows_of(site.server.dsn(site.sealed), under)
    answering = ["respond", "--key", str(key), "--reason", "a test", "--report", str(site.directory), "--rate", "500"]
    assert done_despite(site, answering, fault, 2, random.Random(8))
    assert rows_of(site.proxy_dsn, NAMED) == before
    assert (key,) not in rows_of(site.server.dsn(site.sealed), under)
    assert list(site.directory.glob("incident-*.md"))


@contextmanager
def site_of(mortal: MortalServer, directory: Path) -> Iterator[Site]:
    with filled_site(mortal.server, directory, rows=ROWS) as site:
        yield site


@pytest.mark.timeout(1800 if EXPLORING else 1200)
@pytest.mark.parametrize("what", ["the job", "the proxy", "the job's connections", "PostgreSQL"])
def test_killed_at_random_moments(mortal: MortalServer, tmp_path: Path, what: str) -> None:
    with site_of(mortal, tmp_path) as site:

        def the_proxy(_: Job) -> None:
            site.proxy.kill()
            site.proxy.start()

        def the_connections(_: Job) -> None:
            with mortal.server.connect() as conn:
                conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'phiproxy job%'")

        def postgresql(_: Job) -> None:
            mortal.kill()
            mortal.restart()

        faults = {"the job": killed, "the proxy": the_proxy, "the job's connections": the_connections, "PostgreSQL": postgresql}
        columns = "SELECT id, name, born, score, city FROM patients ORDER BY id"  # which nobody changes
        before = rows_of(site.plain_dsn, columns)

        def as_before() -> None:
            if what == "the job":
                assert rows_of(site.proxy_dsn, columns) == before

        converted_despite(site, faults[what], as_before)
        if what == "PostgreSQL":
            answered_despite(site, postgresql)
        if what == "the proxy":
            assert all(state == "done" for _, state in _states(site)), "a job outlives proxies"


def _states(site: Site) -> list[tuple[object, ...]]:
    return rows_of(site.server.dsn(site.sealed), "SELECT id, state FROM phiproxy.job ORDER BY id")


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own that is soon full; without the right to mount one the test is skipped."""
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def told_before(site: Site, admin: psycopg.Connection[tuple[object, ...]]) -> dict[str, Any]:
    """What a job needs is told in bytes before it begins; who sees where the server keeps its data is told that it cannot fit."""
    looked = json.loads(site.cli("encrypt", "--dry-run", "--json"))
    assert any("only the server's machine says (df)" in line for line in looked["done"])
    (need,) = looked["disk"]
    admin.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(site.service)))
    try:
        seeing = run_cli("encrypt", "-c", str(site.config), env=site.env)
        assert (seeing.returncode, "small: " in seeing.stderr, "are free, and" in seeing.stderr) == (1, True, True), seeing.stderr
        assert "free in pg_wal: " in site.cli("encrypt", "--dry-run", check=False)
    finally:
        admin.execute(sql.SQL("REVOKE pg_monitor FROM {}").format(sql.Identifier(site.service)))
    assert json.loads(site.cli("jobs", "--json")) == []
    return dict(need)


def sizes_of(site: Site) -> dict[str, tuple[str, int]]:
    """The files of the table and its indexes, by where they are, and how large they are."""
    query = (
        "SELECT pg_relation_filepath(c.oid), coalesce(spcname, 'pg_default'), pg_table_size(c.oid) FROM pg_class c"
        " LEFT JOIN pg_tablespace t ON t.oid = reltablespace"
        " WHERE c.oid = 'patients'::regclass OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'patients'::regclass)"
    )
    return {str(path): (str(place), int(str(size))) for path, place, size in rows_of(site.server.dsn(site.sealed), query)}


def grown(before: dict[str, tuple[str, int]], after: dict[str, tuple[str, int]]) -> dict[str, int]:
    """How much was needed beside what was there: what was replaced went only when that was."""
    more = Counter[str]()
    for path, (place, size) in after.items():
        more[place] += size - before.get(path, (place, 0))[1]
    return dict(more)


def logged(mortal: MortalServer) -> int:
    """How much WAL the server has written since it was made."""
    ((written,),) = rows_of(mortal.server.dsn(), "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8")
    return int(str(written))


def test_a_full_disk(mortal: MortalServer) -> None:
    """The table's tablespace has room for its rows, and not for as many again: the job says so, and goes on when there is room."""
    place = mortal.own.directory / "small"
    with small_disk(place, 1) as disk, mortal.server.connect() as admin:
        mortal.own._who.own(disk)
        admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
        directory = mortal.own.directory / "site"
        directory.mkdir()
        try:
            with filled_site(mortal.server, directory, rows=5000) as site:
                with mortal.server.connect(site.sealed) as conn:
                    conn.execute("ALTER TABLE patients SET TABLESPACE small")
                    conn.execute("ANALYZE patients")
                before = rows_of(site.plain_dsn, NAMED)
                need = told_before(site, admin)
                sizes, began = sizes_of(site), logged(mortal)
                failed = run_cli("encrypt", "-c", str(site.config), env=site.env)
                assert (failed.returncode, "jobs resume 1" in failed.stderr) == (1, True), failed.stderr
                assert "53100" in failed.stderr
                assert rows_of(site.proxy_dsn, NAMED) == before
                subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
                site.cli("jobs", "resume", "1")
                more = grown(sizes, sizes_of(site))
                assert more.keys() == need["more_bytes"].keys()
                assert 0.5 < sum(more.values()) / sum(need["more_bytes"].values()) < 2
                assert 0.5 < (logged(mortal) - began) / need["wal_bytes"] < 2
                assert rows_of(site.proxy_dsn, NAMED) == before
                assert rows_of(site.proxy_dsn, "SELECT id FROM patients WHERE ssn = 'secret-3999'") == [(3999,)]
        finally:
            admin.execute("DROP TABLESPACE small")


@contextmanager
def wal_on(mortal: MortalServer, disk: Path) -> Iterator[None]:
    """The server's WAL is on a file system of its own, and what is over goes at once; at the end it is where it was."""
    wal = mortal.own.data / "pg_wal"

    def moved(source: Path, target: Path) -> None:
        mortal.kill()
        subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)

    with mortal.server.connect() as conn:
        conn.execute("ALTER SYSTEM SET wal_recycle = off")
        conn.execute("ALTER SYSTEM SET checkpoint_timeout = '1d'")
        conn.execute("ALTER SYSTEM SET autovacuum = off")  # which writes as much as it likes, into the next segment too
        conn.execute("SELECT pg_reload_conf()")
        conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")
    moved(wal, disk)
    wal.rename(wal.with_name("pg_wal_before"))
    wal.symlink_to(disk)
    mortal.restart()
    try:
        yield
    finally:
        wal.unlink()
        moved(disk, wal.with_name("pg_wal_before"))
        wal.with_name("pg_wal_before").rename(wal)
        mortal.restart()
        with mortal.server.connect() as conn:
            conn.execute("ALTER SYSTEM RESET wal_recycle")
            conn.execute("ALTER SYSTEM RESET checkpoint_timeout")
            conn.execute("ALTER SYSTEM RESET autovacuum")
            conn.execute("SELECT pg_reload_conf()")


def nearly_full(mortal: MortalServer, disk: Path) -> bool:
    """Fill a segment of the WAL but for its end, and the disk so that there will be no other; tell whether there is none yet."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with mortal.server.connect() as conn:  # a checkpoint after this would make another segment
        conn.execute("SELECT pg_switch_wal()")
        conn.execute("CHECKPOINT")
        rest = "SELECT pg_logical_emit_message(false, '', repeat('x', (16 << 20) - 300000 - file_offset))"
        at = "FROM pg_walfile_name_offset(pg_current_wal_insert_lsn())"
        conn.execute(f"{rest} {at}".encode())
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False)
        ((name, offset),) = conn.execute(f"SELECT file_name, file_offset::text {at}".encode()).fetchall()
    later = [path for path in disk.iterdir() if len(path.name) == len(str(name)) and path.name > str(name)]
    return not later and int(str(offset)) > 16_000_000


def test_a_full_disk_of_the_wal(mortal: MortalServer) -> None:
    """The server panics, and says no more: the job says how to go on, nothing is half done, and it does when there is room."""
    place = mortal.own.directory / "wal"
    directory = mortal.own.directory / "site_of_wal"
    directory.mkdir()
    with small_disk(place, 96) as disk, filled_site(mortal.server, directory, rows=2000) as site, wal_on(mortal, disk):
        mortal.own._who.own(disk)
        before = rows_of(site.plain_dsn, NAMED)
        until(lambda: nearly_full(mortal, disk), "others write too much meanwhile", 120)
        failed = run_cli("encrypt", "-c", str(site.config), env=site.env)
        assert (failed.returncode, "phiproxy jobs resume 1" in failed.stderr) == (1, True), failed.stderr
        assert "ignored" not in failed.stderr, "what a library says may quote a row"
        assert "PANIC" in mortal.own.log_path.read_text()
        disk.joinpath("ballast").unlink()
        mortal.kill()  # whether it has come back or not
        mortal.restart()
        assert rows_of(site.server.dsn(site.sealed), NAMED) == before, "still in clear"
        site.cli("jobs", "resume", "1")
        assert rows_of(site.proxy_dsn, NAMED) == before
        assert rows_of(site.proxy_dsn, "SELECT id FROM patients WHERE ssn = 'secret-1999'") == [(1999,)]
