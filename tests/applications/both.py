"""Both applications beside each other: their tables, full of plaintext, and the two at work on these and on a twin's."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any, Self

import psycopg

from tests.harness.proxy import ROOT, environment

# What has to be dropped before, as docs/existing-data.md says; and the applications' people.
DROPPED = """
DO $$DECLARE n record; BEGIN
  FOR n IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'f' AND conrelid = 'ehr_medication'::regclass
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', n.t, n.conname); END LOOP;
  FOR n IN SELECT indexrelid::regclass AS i FROM pg_index WHERE indrelid::regclass::text IN
      ('ehr_patient', 'ehr_encounter', 'ehr_observation', 'ehr_medication', 'patients')
      AND (indexprs IS NOT NULL OR indexrelid::regclass::text LIKE '%\\_like')
    LOOP EXECUTE format('DROP INDEX %s', n.i); END LOOP;
END$$
"""
PEOPLE = """
INSERT INTO {patients} (id, mrn, ssn, first_name, last_name, date_of_birth, sex, height_cm, phone, notes, created_at{more})
SELECT lpad(to_hex(n), 32, '0')::uuid, 'M' || lpad(n::text, 8, '0'), CASE WHEN n % 7 > 0 THEN '9' || lpad(n::text, 9, '0') END,
       'Ann' || n % 50, CASE WHEN n <= {persons} THEN 'Miller' || n % 400 ELSE 'Smith' || n % 4000 END,
       date '1930-01-01' + n % 30000, substr('FMX', 1 + n % 3, 1), 150 + n % 50, '+1 ' || n,
       'seen ' || n || ' times', now(){values}
  FROM generate_series(1, {rows}) n;
INSERT INTO {encounters} (patient_id, started_at, department, reason)
SELECT id, '2026-03-29', 'Ward', 'fever ' || mrn FROM {patients} WHERE mrn <= 'M' || lpad({persons}::text, 8, '0');
INSERT INTO {observations} (encounter_id, code, value, unit, detail, taken_at)
SELECT id, '8310-5', 38.5, 'Cel', '{{"n": 1}}', '2026-03-29' FROM {encounters};
INSERT INTO {medications} (mrn, code, name, dose, prescribed_on)
SELECT mrn, 'RX-1', 'drug', 1, '2026-01-01' FROM {patients} WHERE mrn <= 'M' || lpad({persons}::text, 8, '0');
ANALYZE
"""
SQLALCHEMY = {"patients": "patients", "encounters": "encounters", "observations": "observations", "medications": "medications"}
DJANGO = {name: f"ehr_{name[:-1]}" for name in SQLALCHEMY}


def _module(name: str, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.applications.{name}", *arguments],
        env=environment(env), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def _made(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def make_tables(dsn: str, persons: int, rows: int = 0) -> None:
    """Make the tables of both in the database of an owner, and fill them.

    SQLAlchemy's patients are so many ``rows``, if these are more: the others are of patients that it does not come to.
    """
    _made(_module("sqlalchemy_ehr.at_work", "make", dsn))
    _made(_module("django_ehr.manage", "migrate", env={"DATABASE_URL": dsn}))
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(DROPPED)
        for names in (SQLALCHEMY, DJANGO):
            more = (", active", ", true") if names is SQLALCHEMY else (", visits", ", 0")
            patients = max(rows, persons) if names is SQLALCHEMY else persons
            unit = PEOPLE.format(**names, more=more[0], values=more[1], persons=persons, rows=patients)
            conn.execute(unit.encode())


def rows_of(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """Return all that the applications have stored, each row with its columns in the order of their names."""
    found = {}
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table in (*SQLALCHEMY.values(), *DJANGO.values()):
            names = [c.name for c in conn.execute(f"SELECT * FROM {table} LIMIT 0".encode()).description or ()]
            listed = ", ".join(sorted(set(names) - {"created_at", "arrival"}))
            found[table] = conn.execute(f"SELECT {listed} FROM {table} ORDER BY id".encode()).fetchall()
    return found


class AtWork:
    """Both at work, through a proxy and on its twin, with seconds of ``pause`` between the steps of each; they begin at once."""

    def __init__(self, dsn: str, twin: str, persons: int, pause: float = 0.0) -> None:
        urls = {"DATABASE_URL": dsn, "TWIN_URL": twin}
        self._running = [
            _module("sqlalchemy_ehr.at_work", dsn, twin, str(persons), "1", str(pause), stdin=subprocess.PIPE),
            _module("django_ehr.at_work", str(persons), "2", str(pause), env=urls, stdin=subprocess.PIPE),
        ]
        for process in self._running:
            _line(process)

    def rest(self) -> list[dict[str, Any]]:
        """Let both rest after the step they are at; returns what each says of its steps since it began, or went on."""
        for process in self._running:
            _tell(process, "rest")
        return [json.loads(said) if (said := _line(process)) else _failed(process.communicate()[1]) for process in self._running]

    def go_on(self) -> None:
        """Let both work again."""
        for process in self._running:
            _tell(process, "go on")

    def end(self) -> list[dict[str, Any]]:
        """End both; returns what each says of its steps since it began, or went on."""
        ended = [process.communicate(timeout=240) for process in self._running]
        return [json.loads(out) if out else _failed(err) for out, err in ended]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            if process.returncode is None:
                process.kill()
                process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, of which it says why when it is asked what it did
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def _failed(said: str) -> dict[str, Any]:
    return {"wrong": [said[-3000:]], "done": {}, "slowest": 0}
