"""Split writes of every kind that are interrupted at random moments: each one's effect is there as a whole, or not at all.

Several clients run one kind of write each, again and again, over rows of their own. The proxy or the engine is killed, or they
cancel and time out. Then the rows of each show as many writes as were acknowledged; where the connection broke, maybe one more.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.harness.clinic import Clinic

ROWS = 5
DOOMED = "doomed"
Connection = psycopg.Connection[tuple[object, ...]]
# After any of these nothing of the transaction is there. A deadlock: "update of what is chosen" locks the others' rows too.
INTERRUPTED = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.OutOfMemory,
    psycopg.errors.DeadlockDetected,
)


@dataclass(frozen=True)
class Kind:
    """One kind of write, of transactions of several statements; ``{n}`` is the client's number, ``{k}`` that of the write.

    ``shows`` gives for each row how many writes it has seen.
    """

    statements: tuple[str, ...]
    shows: str = "SELECT length(notes) FROM patients WHERE city = '{n}'"


_KEYS = "(VALUES ({n}0, '.'), ({n}1, '.'), ({n}2, '.'), ({n}3, '.'), ({n}4, '.')) AS s (id, mark)"
_ROWS = "({n}0, '.'), ({n}1, '.'), ({n}2, '.'), ({n}3, '.'), ({n}4, '.')"
# Of writes that insert: as many visits of the client's as rows of each write, whose numbers follow each other.
_COUNTED = (
    "SELECT CASE WHEN count(*) = {rows} * count(DISTINCT diagnosis) THEN count(*) / {rows} ELSE -1 END"
    " FROM visits WHERE room = '{{n}}'"
)
KINDS = {
    "update": Kind(("UPDATE patients SET notes = notes || '.' WHERE city = '{n}'",)),
    "update of what is chosen": Kind(("UPDATE patients SET notes = notes || '.' WHERE full_name ILIKE 'client {n}%'",)),
    "update with joined returning": Kind(
        ("UPDATE patients p SET notes = p.notes || '.' WHERE p.city = '{n}' RETURNING p.id, upper(p.full_name)",)
    ),
    "upsert": Kind(
        (f"INSERT INTO patients AS p (id, notes) VALUES {_ROWS} ON CONFLICT (id) DO UPDATE SET notes = p.notes || excluded.notes",)
    ),
    "merge": Kind((f"MERGE INTO patients p USING {_KEYS} ON p.id = s.id WHEN MATCHED THEN UPDATE SET notes = p.notes || s.mark",)),
    "in with": Kind(
        (
            "WITH x AS (UPDATE patients SET notes = notes || '.' WHERE city = '{n}' RETURNING id, full_name)"
            " SELECT id, reverse(full_name) FROM x",
        )
    ),
    "two writes of one transaction": Kind(
        (
            "UPDATE patients SET notes = notes || '.' WHERE id IN ({n}0, {n}1)",
            "UPDATE patients SET notes = notes || '.' WHERE id IN ({n}2, {n}3, {n}4)",
        )
    ),
    "insert of a query": Kind(
        (
            "INSERT INTO visits (room, diagnosis) SELECT city, upper(left(full_name, 0)) || 'write {k}' FROM patients"
            " WHERE city = '{n}' AND full_name ILIKE 'client%'",
        ),
        _COUNTED.format(rows=ROWS),
    ),
    "parent and child": Kind(
        (
            "WITH p AS (INSERT INTO visits (room, diagnosis) VALUES ('{n}', reverse(reverse('write k{k}'))) RETURNING id)"
            " INSERT INTO visits (room, diagnosis) SELECT '{n}', 'write ' || reverse(reverse('k{k}')) FROM p",
        ),
        _COUNTED.format(rows=2),
    ),
}


@dataclass
class Client:
    """A client that writes until it is told to stop, or its connection breaks."""

    number: int
    kind: Kind
    prepare: str = ""
    acknowledged: int = 0
    broken: bool = False
    died: str = ""
    failures: list[str] = field(default_factory=list)

    def work(self, dsn: str, stop: threading.Event, cancels: Callable[[Connection], None]) -> None:
        """Write; ``cancels`` is told of the connection."""
        try:
            with psycopg.connect(dsn, connect_timeout=240) as conn:
                if self.prepare:
                    conn.autocommit = True  # a COMMIT could be timed out already
                    conn.execute(self.prepare.encode())
                    conn.autocommit = False
                cancels(conn)
                while not stop.is_set():
                    self._write(conn)
        except psycopg.OperationalError as error:
            self.broken = error.sqlstate is None or error.sqlstate.startswith(("08", "57P0"))
            if not self.broken:
                self.died = repr(error)
                raise
        except Exception as error:
            self.died = repr(error)
            raise

    def _write(self, conn: Connection) -> None:
        try:
            for statement in self.kind.statements:
                conn.execute(statement.format(n=self.number, k=self.acknowledged + 1).encode())
            conn.commit()
            self.acknowledged += 1
        except INTERRUPTED as error:
            self.failures.append(error.sqlstate or "")
            _roll_back(conn)


def _roll_back(conn: Connection) -> None:
    """Roll back, however often that is cancelled or times out itself."""
    while conn.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.errors.QueryCanceled):
            conn.rollback()


@pytest.fixture
def clients(split_clinic: Clinic) -> list[Client]:
    """One client for each kind, with five patients of its own."""
    with psycopg.connect(split_clinic.proxy_dsn) as conn:
        for number in range(1, len(KINDS) + 1):
            for row in range(ROWS):
                values = (number * 10 + row, f"Client {number}.{row}", "", str(number))
                conn.execute("INSERT INTO patients (id, full_name, notes, city) VALUES (%s, %s, %s, %s)", values)
    return [Client(number, kind) for number, kind in enumerate(KINDS.values(), start=1)]


@contextmanager
def _at_work(clients: list[Client], dsn: str, cancels: Callable[[Connection], None] = lambda _: None) -> Iterator[threading.Event]:
    stop = threading.Event()
    threads = [threading.Thread(target=client.work, args=(dsn, stop, cancels)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def _check(clinic: Clinic, clients: list[Client]) -> None:
    """All rows of a client show the same number of writes: as many as were acknowledged, or one more where it was not told."""
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute("SET lock_timeout = '120s'")
        for client in clients:
            shown = {row[0] for row in conn.execute(client.kind.shows.format(n=client.number).encode()).fetchall()}
            possible = [{client.acknowledged}, {client.acknowledged + 1}][: 2 if client.broken else 1]
            assert shown in possible, (client.kind.statements, client.acknowledged, client.broken)
            conn.execute("UPDATE patients SET city = city WHERE city = %s", (str(client.number),))  # nothing is locked any longer
            client.acknowledged = int(str(next(iter(shown))))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_proxy_is_killed(split_clinic: Clinic, clients: list[Client], seed: int) -> None:
    chance, doomed = random.Random(seed), split_clinic.site.another_proxy(f"killed_{seed}")
    with doomed:
        dsn = doomed.dsn(split_clinic.site.sealed, split_clinic.site.role, split_clinic.site.password)
        dsn = make_conninfo(dsn, application_name=DOOMED)
        with _at_work(clients, dsn):
            _until(lambda: all(client.acknowledged for client in clients), lambda: _told(clients))
            time.sleep(chance.uniform(0.05, 0.8))
            doomed.kill()
    assert all(client.broken for client in clients)
    _until_gone(split_clinic)
    _check(split_clinic, clients)


def test_the_engine_is_killed(split_clinic: Clinic, clients: list[Client], engine_directory: Path) -> None:
    chance, before = random.Random(7), _engines(engine_directory)
    with split_clinic.site.another_proxy("engineless") as proxy:
        dsn = proxy.dsn(split_clinic.site.sealed, split_clinic.site.role, split_clinic.site.password)
        with _at_work(clients, dsn):
            for _ in range(3):
                marks = [client.acknowledged for client in clients]
                _until(partial(_have_gone_on, clients, marks), lambda: _told(clients))
                time.sleep(chance.uniform(0.0, 0.3))
                for pid in _engines(engine_directory) - before:
                    with suppress(ProcessLookupError):  # the file is there a while longer
                        os.kill(pid, signal.SIGKILL)
        assert any("57P03" in client.failures for client in clients)
    assert not any(client.broken for client in clients)
    _check(split_clinic, clients)


def test_statements_time_out(split_clinic: Clinic, clients: list[Client]) -> None:
    for client in clients:
        client.prepare = f"SET statement_timeout = {10 + 7 * client.number}"
    with _at_work(clients, split_clinic.proxy_dsn):
        _until(lambda: _count(clients, "57014") > 40, lambda: _told(clients))
    assert not any(client.broken for client in clients)
    _check(split_clinic, clients)


def test_statements_are_cancelled(split_clinic: Clinic, clients: list[Client]) -> None:
    connections, chance = list[Connection](), random.Random(3)
    with _at_work(clients, split_clinic.proxy_dsn, connections.append):
        _until(lambda: len(connections) == len(clients) and all(client.acknowledged for client in clients), lambda: _told(clients))
        for _ in range(150):
            chance.choice(connections).cancel_safe(timeout=120)
            time.sleep(chance.uniform(0, 0.03))
    assert _count(clients, "57014") > 10
    assert not any(client.broken for client in clients)
    _check(split_clinic, clients)


def _have_gone_on(clients: list[Client], marks: list[int]) -> bool:
    return all(client.acknowledged > mark for client, mark in zip(clients, marks, strict=True))


def _count(clients: list[Client], sqlstate: str) -> int:
    return sum(client.failures.count(sqlstate) for client in clients)


def _engines(directory: Path) -> set[int]:
    """Return the process IDs of the engines that keep their files there, also of those that are gone."""
    found = set[int]()
    for path in directory.glob("*/data/postmaster.pid"):
        with suppress(FileNotFoundError):  # wiped meanwhile
            found |= {int(pid) for pid in path.read_text().split()[:1]}
    return found


def _until(done: Callable[[], bool], state: Callable[[], object]) -> None:
    """Wait for what does not come at any time of its own; ``state`` is told where it does not come at all."""
    end = time.monotonic() + 300
    while not done():
        assert time.monotonic() < end, state()
        time.sleep(0.02)


def _told(clients: list[Client]) -> list[object]:
    return [(client.number, client.acknowledged, Counter(client.failures), client.broken, client.died) for client in clients]


def _until_gone(clinic: Clinic) -> None:
    """Wait until the server has ended the sessions of a proxy that was killed."""
    question = "SELECT state, wait_event, query, backend_start FROM pg_stat_activity WHERE datname = %s AND application_name = %s"

    def sessions() -> list[tuple[object, ...]]:
        return conn.execute(question, (clinic.site.sealed, DOOMED)).fetchall()

    with clinic.superuser() as conn:
        _until(lambda: not sessions(), sessions)
