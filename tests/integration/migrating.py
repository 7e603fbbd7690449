"""One session on each side for tests of migrations: directly on the plaintext twin, and through the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.harness.oracle import LeakOracle
from tests.harness.site import Site


class Pair:
    """What both sides say must be equal."""

    def __init__(self, site: Site, *, autocommit: bool) -> None:
        self.site = site
        self.oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        self.oracle.plant()
        self.sides = [psycopg.connect(dsn, autocommit=autocommit) for dsn in (site.plain_dsn, site.proxy_dsn)]

    def run(self, statement: str, params: tuple[object, ...] | None = None, *, prepare: bool | None = None) -> list[object]:
        """Run a statement on both sides, in the simple protocol unless it has parameters or is prepared."""
        told: list[list[object]] = []
        for conn in self.sides:
            try:
                with conn.cursor(binary=prepare is not None) as cursor:
                    cursor.execute(statement.encode(), params, prepare=prepare)
                    rows = sorted(cursor.fetchall(), key=repr) if cursor.description else []
                    told.append([cursor.statusmessage, rows])
            except psycopg.Error as error:
                told.append([error.sqlstate, error.diag.constraint_name])
        assert told[0] == told[1], f"directly {told[0]}, through the proxy {told[1]}: {statement}"
        return told[1]

    def refused(self, statement: str, sqlstate: str = "0A000") -> psycopg.Error:
        """Let the proxy refuse a statement, and return how."""
        with pytest.raises(psycopg.Error) as caught:
            self.sides[1].execute(statement.encode())
        assert caught.value.sqlstate == sqlstate, caught.value
        return caught.value

    def distinct_envelopes(self, table: str, column: str, where: str) -> bool:
        """Tell whether no two of these rows of the encrypted table hold the same envelope."""
        query = f"SELECT count(*) = count(DISTINCT {column}) FROM {table} WHERE {column} IS NOT NULL AND {where}"
        with self.site.server.connect(self.site.sealed) as conn:
            row = conn.execute(query.encode()).fetchone()
        return row is not None and bool(row[0])

    def commit(self) -> None:
        """COMMIT on both sides."""
        for conn in self.sides:
            conn.commit()

    def rollback(self) -> None:
        """ROLLBACK on both sides."""
        for conn in self.sides:
            conn.rollback()


@contextmanager
def pair(site: Site, *, autocommit: bool = True) -> Iterator[Pair]:
    """Yield a pair on empty databases; afterwards nothing planted was seen where it must not be."""
    for database in (site.plain, site.sealed):
        with site.server.connect(database) as conn:
            conn.execute("DROP TABLE IF EXISTS visits, patients, other CASCADE")
    site.tap.reset()
    found = Pair(site, autocommit=autocommit)
    try:
        yield found
    finally:
        for conn in found.sides:
            conn.close()
    found.oracle.assert_no_leak()
