"""The proxy is killed between the two statements of a split write: nothing is written, and nothing stays locked."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.harness.clinic import Clinic

# What keeps the engine busy for some seconds.
SLOW = "(SELECT count(*)::text FROM generate_series(1, 5000) AS a, generate_series(1, 8000) AS b)"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE patients SET notes = notes || {SLOW}",
        f"DELETE FROM visits WHERE diagnosis < 'x' || {SLOW}",
        f"INSERT INTO visits (diagnosis) SELECT full_name || {SLOW} FROM patients",
        f"INSERT INTO visits (diagnosis) VALUES ('x' || {SLOW})",
    ],
)
def test_nothing_is_half_written(split_clinic: Clinic, statement: str) -> None:
    split_clinic.seed()
    before = _stored(split_clinic)
    doomed = split_clinic.site.another_proxy("doomed")
    outcomes: list[str] = []

    def write(dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            try:
                conn.execute(statement)
                outcomes.append("written")
            except psycopg.Error as error:
                outcomes.append(error.sqlstate or "gone")

    with doomed:
        dsn = doomed.dsn(split_clinic.site.sealed, split_clinic.site.role, split_clinic.site.password)
        writer = threading.Thread(target=write, args=(dsn,))
        writer.start()
        _wait_for_source(split_clinic, outcomes)
        time.sleep(0.3)
        doomed.kill()
        writer.join(120)
    assert outcomes == ["gone"]
    assert _stored(split_clinic) == before
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute("SET lock_timeout = '120s'")
        assert conn.execute("UPDATE patients SET notes = notes || '!'").rowcount > 0


def _wait_for_source(clinic: Clinic, outcomes: list[str]) -> None:
    """Wait until the server has answered the source and waits in its transaction for what comes next."""
    end = time.monotonic() + 120
    question = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = %s AND wait_event = 'ClientRead'"
        " AND backend_xid IS NOT NULL OR (datname = %s AND state = 'active' AND wait_event = 'ClientRead')"
    )
    site = clinic.site
    with clinic.superuser() as conn:
        conn.autocommit = True
        while time.monotonic() < end:
            row = conn.execute(question, (site.sealed, site.role, site.sealed)).fetchone()
            if row is not None and row[0]:
                return
            time.sleep(0.05)
    raise AssertionError(f"the source was not asked: {outcomes}")


def _stored(clinic: Clinic) -> list[tuple[object, ...]]:
    with clinic.superuser() as conn:
        patients = conn.execute("SELECT ctid, * FROM patients").fetchall()
        return [*patients, *conn.execute("SELECT ctid, * FROM visits").fetchall()]
