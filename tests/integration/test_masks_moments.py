"""Masks of moments: whatever the shape of the statement and the time zone of the session, the month shown is that of UTC."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.integration.masked_site import Connection, MaskedSite, open_masked_site

# By the clocks of most time zones one of both is in another month.
LATE, EARLY = "2026-11-30 23:59:59.999999+00", "2026-12-01 00:00:00+00"
SHOWN = ["2026-11-01 00:00:00", "2026-12-01 00:00:00"]
ZONES = ("UTC", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu", "XYZ-3:21", "Etc/GMT+12")
VIEW = "CREATE VIEW everybody AS SELECT id, name || ' ' || id AS label, seen, city FROM people"


@pytest.fixture(scope="module")
def masked(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path
) -> Iterator[MaskedSite]:
    """The clinic with two people, seen within a second, an engine, and a view that computes."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    with open_masked_site(postgres_server, tmp_path_factory.mktemp("moments"), settings=settings, view=VIEW) as masked:
        with masked.as_owner() as owner:
            for number, moment in enumerate((LATE, EARLY), start=1):
                owner.execute(
                    "INSERT INTO people (id, mrn, name, city, seen) VALUES (%s, 'm', 'Ann', 'Turku', %s)", (number, moment)
                )
        yield masked


def selected(conn: Connection, query: str, zone: str = "") -> list[str]:
    """Return the last column of a query as the server spells it."""
    del zone
    result = conn.pgconn.exec_(query.encode())
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    return [(result.get_value(row, result.nfields - 1) or b"").decode() for row in range(result.ntuples)]


def in_binary(conn: Connection, query: str, zone: str) -> list[str]:
    """Return the last column in binary, microseconds since 2000, as the server spells them by the session's clock."""
    del zone
    result = conn.pgconn.exec_params(query.encode(), [], result_format=1)
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    spelled = []
    for row in range(result.ntuples):
        since = int.from_bytes(result.get_value(row, result.nfields - 1) or b"", "big", signed=True)
        spelled += selected(conn, f"SELECT '2000-01-01 00:00:00+00'::timestamptz + {since} * interval '1 microsecond'")
    return spelled


def fetched(conn: Connection, query: str, zone: str) -> list[str]:
    """Declare a cursor in another time zone, and fetch in this one."""
    conn.execute("BEGIN")
    conn.execute("SET LOCAL timezone = 'Asia/Tokyo'")
    conn.execute(f"DECLARE c CURSOR FOR {query}".encode())
    conn.execute(f"SET LOCAL timezone = '{zone}'".encode())
    found = selected(conn, "FETCH 1 FROM c") + selected(conn, "FETCH ALL FROM c")
    conn.execute("COMMIT")
    return found


def executed(conn: Connection, query: str, zone: str) -> list[str]:
    """Prepare and execute in another time zone, and execute in this one."""
    conn.execute("SET timezone = 'Asia/Tokyo'")
    conn.execute(f"PREPARE p AS {query}".encode())
    assert selected(conn, "EXECUTE p") == [f"{shown}+09" for shown in SHOWN]
    conn.execute(f"SET timezone = '{zone}'".encode())
    found = selected(conn, "EXECUTE p")
    conn.execute("DEALLOCATE p")
    return found


def copied(conn: Connection, query: str, zone: str) -> list[str]:
    del zone
    with conn.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT csv)".encode()) as copy:
        data = b"".join(bytes(block) for block in copy).decode()
    return [row[-1] for row in csv.reader(io.StringIO(data))]


def returned(conn: Connection, query: str, zone: str) -> list[str]:
    del query, zone
    conn.execute("BEGIN")
    found = [*map(partial(selected, conn), [f"UPDATE people SET city = city WHERE id = {n} RETURNING seen" for n in (1, 2)])]
    conn.execute("ROLLBACK")
    return [one for (one,) in found]


WAYS: dict[str, Callable[[Connection, str, str], list[str]]] = {
    way.__name__: way for way in (selected, in_binary, fetched, executed, copied, returned)
}
QUERIES = [
    "SELECT seen FROM people ORDER BY id",
    "SELECT q.s FROM (SELECT id AS i, seen AS s FROM people) q ORDER BY q.i",
    "SELECT e.seen FROM everybody e ORDER BY e.id",
    "WITH a AS (SELECT id, seen FROM people WHERE id = 1), b AS (SELECT id, seen FROM people WHERE id = 2)"
    " SELECT * FROM (SELECT id, seen FROM a UNION ALL SELECT id, seen FROM b) t ORDER BY id",
    "SELECT upper(mrn), seen FROM people ORDER BY id",
    "SELECT e.label, p.seen FROM people p JOIN everybody e ON e.id = p.id ORDER BY p.id",
]


@pytest.mark.parametrize("zone", ZONES)
def test_the_month_is_that_of_utc_in_every_shape(masked: MaskedSite, zone: str) -> None:
    with masked.as_role("mask_safe", prepare_threshold=None) as conn:
        for query in QUERIES:
            for name, way in WAYS.items():
                conn.execute(f"SET timezone = '{zone}'".encode())
                assert [one[:19] for one in way(conn, query, zone)] == SHOWN, (name, query)


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT id FROM people WHERE seen < '{EARLY}'",
        "SELECT id FROM people ORDER BY seen",
        "SELECT max(seen) FROM people",
        "SELECT count(*) FROM people GROUP BY seen",
        "SELECT DISTINCT seen FROM people",
        "SELECT seen AT TIME ZONE 'Asia/Tokyo' FROM people",
        "SELECT extract(month FROM seen) FROM people",
        "SELECT to_char(seen, 'DD') FROM people",
        "SELECT seen - interval '1 day' FROM people",
        f"SELECT e.id FROM everybody e WHERE e.seen >= '{EARLY}'",
        "SELECT upper(mrn) FROM people ORDER BY seen",
        "SELECT a.id FROM people a JOIN people b ON a.seen < b.seen",
        "UPDATE people SET city = city WHERE id = 1 RETURNING seen > now()",
        "UPDATE people SET seen = seen",
    ],
)
def test_nothing_is_computed_of_it(masked: MaskedSite, statement: str) -> None:
    with masked.kept("mask_safe") as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.encode())
