"""What is measured: pgbench's own scripts and ours, and what a driver does in bulk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import psycopg
from psycopg import pq

from benchmarks.contenders import AUDITED, AUDITED_IN_MEMORY, PROTECTED_WAYS, SEALED, UNPROTECTED_WAYS
from benchmarks.site import copied, row

FIELDS = "ssn, full_name, diagnosis"
BY_KEY = f"\\set id random(1, :rows)\nSELECT {FIELDS} FROM people WHERE id = :id;\n"
BY_TAG = f"\\set ssn 100000000 + random(1, :rows)\nSELECT {FIELDS} FROM people WHERE ssn = :ssn;\n"
BY_LITERAL = f"\\set ssn 100000000 + random(1, :rows)\nSELECT {FIELDS} FROM people WHERE ssn = ':ssn';\n"
INSERT = f"""\\set ssn random(100000000, 999999999)
\\set name random(1000000, 1999999)
\\set code random(100, 199)
INSERT INTO intake ({FIELDS}) VALUES (:ssn, :name, :code);
"""
UPDATE = """\\set id random(1, 1000)
\\set ssn random(100000000, 999999999)
\\set name random(1000000, 1999999)
\\set code random(100, 199)
UPDATE changes SET ssn = :ssn, full_name = :name, diagnosis = :code WHERE id = :id;
"""
RECORDED_WAYS = (*PROTECTED_WAYS, AUDITED, AUDITED_IN_MEMORY)
MANY = 64
"""Clients that keep a core of the proxy busy also while most of them wait for a sync of the disk."""
SELECT_ONLY, TPC_B = "-S", "-btpcb-like"


@dataclass(frozen=True)
class Queries:
    """Many small transactions, by pgbench: its own script (an option) or one of ours. ``often``: measured in every round."""

    name: str
    script: str
    mode: str = "prepared"
    clients: int = 8
    ways: Sequence[str] = UNPROTECTED_WAYS
    often: bool = False

    @property
    def title(self) -> str:
        """The name with the number of clients."""
        return f"{self.name}, {self.clients} {'client' if self.clients == 1 else 'clients'}"


@dataclass(frozen=True)
class Bulk:
    """One big piece of work, by a driver: ``work`` gets a connection and the number of rows, and returns how many there were.

    ``prepare`` gets the number of rows before the time is taken: making a client's data is no part of what is measured.
    """

    name: str
    work: Callable[[psycopg.Connection, int], int]
    ways: Sequence[str] = PROTECTED_WAYS
    share: float = 1.0
    often: bool = False
    prepare: Callable[[int], object] | None = None

    @property
    def title(self) -> str:
        """The name."""
        return self.name


def _select_all(table: str, form: int) -> Callable[[psycopg.Connection, int], int]:
    def work(connection: psycopg.Connection, _rows: int) -> int:
        # libpq itself, so that it is not the driver's Python that is measured.
        result = connection.pgconn.exec_params(f"SELECT * FROM {table}".encode(), [], result_format=form)
        _check(result)
        return result.ntuples

    return work


def _check(result: pq.abc.PGresult) -> None:
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise SystemExit(result.error_message.decode("utf-8", "replace"))


def _group(connection: psycopg.Connection, rows: int) -> int:
    found = connection.execute(b"SELECT diagnosis, count(*) FROM people GROUP BY diagnosis").fetchall()
    if sum(n for _, n in found) != rows:
        raise SystemExit("GROUP BY does not give every row")
    return len(found)


def _copy(connection: psycopg.Connection, rows: int) -> int:
    data = copied(rows)  # which ``prepare`` has made
    with connection.cursor().copy(b"COPY arrivals FROM STDIN") as copy:
        copy.write(data)
    return rows


_fresh = count()


def _three(n: int) -> tuple[object, ...]:
    return row(n + 1000 * next(_fresh))[1:4]


_INSERT = f"INSERT INTO intake ({FIELDS}) VALUES (%s, %s, %s)".encode()
_UPDATE = b"UPDATE changes SET ssn = %s, full_name = %s, diagnosis = %s WHERE id = %s"


def _executemany_insert(connection: psycopg.Connection, rows: int) -> int:
    connection.cursor().executemany(_INSERT, [_three(n) for n in range(rows)])
    return rows


def _executemany_update(connection: psycopg.Connection, rows: int) -> int:
    connection.cursor().executemany(_UPDATE, [(*_three(n), 1 + n % 1000) for n in range(rows)])
    return rows


def _pipelined(connection: psycopg.Connection, rows: int) -> int:
    with connection.pipeline():
        for n in range(rows // 2):
            connection.execute(_INSERT, _three(n), prepare=True)
            connection.execute(_UPDATE, (*_three(n), 1 + n % 1000), prepare=True)
    return rows // 2 * 2


def queries() -> list[Queries]:
    """Return every workload of pgbench."""
    modes = ("prepared", "extended", "simple")
    found = [Queries(f"pgbench -S, {m}", SELECT_ONLY, m, often=True) for m in modes]
    found += [Queries(f"pgbench TPC-B-like, {m}", TPC_B, m, often=m == "simple") for m in modes]
    found += [Queries("pgbench -S, prepared", SELECT_ONLY, clients=n) for n in (1, 32)]
    found += [
        Queries("point select by primary key, 3 protected columns, prepared", BY_KEY, ways=PROTECTED_WAYS),
        Queries("point select by tag, 3 protected columns, prepared", BY_TAG, ways=RECORDED_WAYS, often=True),
        Queries("point select by tag, 3 protected columns, prepared", BY_TAG, clients=1, ways=PROTECTED_WAYS, often=True),
        Queries("point select by tag, 3 protected columns, prepared", BY_TAG, clients=32, ways=PROTECTED_WAYS),
        Queries("point select by tag, 3 protected columns, prepared", BY_TAG, clients=MANY, ways=(SEALED, AUDITED), often=True),
        Queries("point select by literal, 3 protected columns, simple", BY_LITERAL, "simple", ways=PROTECTED_WAYS, often=True),
        Queries("insert of 3 protected columns, prepared", INSERT, ways=PROTECTED_WAYS, often=True),
        Queries("update of 3 protected columns, prepared", UPDATE, ways=PROTECTED_WAYS),
    ]
    return found


def bulks() -> list[Bulk]:
    """Return every workload of a driver; ``share`` is the part of the rows that it takes."""
    return [
        Bulk("SELECT * of 3 protected columns of 10, text", _select_all("people", 0)),
        Bulk("SELECT * of 3 protected columns of 10, binary", _select_all("people", 1), (*PROTECTED_WAYS, AUDITED), often=True),
        Bulk("SELECT * of 10 unprotected columns, text", _select_all("ledger", 0), UNPROTECTED_WAYS),
        Bulk("SELECT * of 10 unprotected columns, binary", _select_all("ledger", 1), UNPROTECTED_WAYS, often=True),
        Bulk("COPY FROM, 3 protected columns of 10", _copy, often=True, prepare=copied),
        Bulk("GROUP BY on a tag, 40 groups", _group),
        Bulk("executemany INSERT of 3 protected columns", _executemany_insert, share=0.05),
        Bulk("executemany UPDATE of 3 protected columns", _executemany_update, share=0.02),
        Bulk("pipelined INSERT and UPDATE of 3 protected columns", _pipelined, share=0.04),
    ]
