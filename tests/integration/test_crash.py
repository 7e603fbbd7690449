"""kill -9 in the middle of a load: what was stored opens through another proxy, and there is nothing half-written."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from tests.harness.clinic import INSERT, Clinic, Patient
from tests.harness.proxy import run_cli
from tests.harness.waiting import until
from tests.integration.dialogue import COLUMNS

Row = tuple[str | int | bool, ...]


def rows_of(patient: Patient, loader: int) -> Iterator[Row]:
    """Yield rows without end, each with its own SSN and notes; the planted texts are in all of them."""
    for number in itertools.count():
        ssn, notes = f"{patient.ssn}/{loader}/{number}", f"{patient.notes} {number} " + "x" * (number % 90)
        yield replace(patient, ssn=ssn, notes=notes, visits_count=number).row()


def load(dsn: str, rows: Iterator[Row], sent: list[Row], started: threading.Event, errors: list[str]) -> None:
    """Insert one by one, each its own transaction, until the proxy is gone."""
    try:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for row in rows:
                sent.append(row)
                conn.execute(INSERT, row)
                started.set()
    except psycopg.Error as error:
        errors.append(error.sqlstate or "")


def until_gone(clinic: Clinic) -> None:
    """Wait until the server has ended the sessions of a proxy that was killed: statements that were under way may end yet."""
    query = "SELECT FROM pg_stat_activity WHERE datname = %s AND usename = %s"
    with clinic.superuser() as conn:
        until(lambda: not conn.execute(query, (clinic.site.sealed, clinic.site.role)).fetchall(), "its sessions are left")


def stored(clinic: Clinic) -> int:
    with clinic.superuser() as conn:
        row = conn.execute("SELECT count(*) FROM patients").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("pause", [0.0, 0.15, 0.4])
def test_every_stored_value_opens_after_kill_9(clinic: Clinic, pause: float) -> None:
    doomed = clinic.site.another_proxy("doomed")
    errors: list[str] = []
    sent: list[Row] = []
    started = [threading.Event() for _ in range(3)]
    with doomed:
        dsn = doomed.dsn(clinic.site.sealed, clinic.site.role, clinic.site.password)
        loaders = [
            threading.Thread(target=load, args=(dsn, rows_of(clinic.new_patient(), number), sent, begun, errors))
            for number, begun in enumerate(started)
        ]
        for loader in loaders:
            loader.start()
        assert all(begun.wait(240) for begun in started)
        time.sleep(pause)
        doomed.kill()
        for loader in loaders:
            loader.join(240)
    assert len(errors) == 3, "each loader was interrupted"
    until_gone(clinic)
    count = stored(clinic)
    # what was confirmed is there; the one statement of each loader that was under way may be, or not
    assert len(sent) - 3 <= count <= len(sent)
    assert clinic.assert_sealed() == 6 * count
    expected = {row[1]: row for row in sent}
    with clinic.site.another_proxy("after") as after:
        dsn = after.dsn(clinic.site.sealed, clinic.site.role, clinic.site.password)
        with psycopg.connect(dsn) as conn:
            rows = conn.execute(f"SELECT {COLUMNS} FROM patients").fetchall()
            assert len(rows) == count
            assert all(expected[row[1]] == row for row in rows)
            # and the tags still find them
            probe = conn.execute("SELECT notes FROM patients WHERE ssn = %s", (rows[0][1],)).fetchall()
            assert probe == [(rows[0][5],)]


def test_a_killed_transaction_leaves_nothing(clinic: Clinic) -> None:
    doomed = clinic.site.another_proxy("doomed")
    with doomed:
        conn = psycopg.connect(doomed.dsn(clinic.site.sealed, clinic.site.role, clinic.site.password))
        for _ in range(20):
            conn.execute(INSERT, clinic.new_patient().row())
        doomed.kill()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
        conn.close()
    until_gone(clinic)
    assert stored(clinic) == 0


def test_open_opens_what_a_killed_proxy_left(clinic: Clinic) -> None:
    doomed = clinic.site.another_proxy("doomed")
    patient = clinic.new_patient()
    dsn = doomed.dsn(clinic.site.sealed, clinic.site.role, clinic.site.password)
    with doomed, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(INSERT, patient.row())
        doomed.kill()
    (value,) = clinic.raw("patients", "notes")
    assert value is not None
    done = run_cli("open", value.hex(), "-c", str(clinic.site.config), env=clinic.site.env, check=True)
    assert done.stdout == patient.notes + "\n"
