"""Both applications beside each other: their tables, full of plaintext, and the two at work on these and on a twin's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
       'Ann' || n % 50, 'Miller' || n % 400, date '1930-01-01' + n % 30000, substr('FMX', 1 + n % 3, 1), 150 + n % 50, '+1 ' || n,
       'seen ' || n || ' times', now(){values}
  FROM generate_series(1, {persons}) n;
INSERT INTO {encounters} (patient_id, started_at, department, reason)
SELECT id, '2026-03-29', 'Ward', 'fever ' || mrn FROM {patients};
INSERT INTO {observations} (encounter_id, code, value, unit, detail, taken_at)
SELECT id, '8310-5', 38.5, 'Cel', '{{"n": 1}}', '2026-03-29' FROM {encounters};
INSERT INTO {medications} (mrn, code, name, dose, prescribed_on)
SELECT mrn, 'RX-1', 'drug', 1, '2026-01-01' FROM {patients};
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


def make_tables(dsn: str, persons: int) -> None:
    """Make the tables of both in the database of an owner, and fill them."""
    _made(_module("sqlalchemy_ehr.at_work", "make", dsn))
    _made(_module("django_ehr.manage", "migrate", env={"DATABASE_URL": dsn}))
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(DROPPED)
        for names in (SQLALCHEMY, DJANGO):
            more = (", active", ", true") if names is SQLALCHEMY else (", visits", ", 0")
            unit = PEOPLE.format(**names, more=more[0], values=more[1], persons=persons)
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


@contextmanager
def at_work(dsn: str, twin: str, persons: int) -> Iterator[list[dict[str, Any]]]:
    """Both at work, through a proxy and on its twin; at the end what each says of it."""
    urls = {"DATABASE_URL": dsn, "TWIN_URL": twin}
    running = [
        _module("sqlalchemy_ehr.at_work", dsn, twin, str(persons), "1", stdin=subprocess.PIPE),
        _module("django_ehr.at_work", str(persons), "2", env=urls, stdin=subprocess.PIPE),
    ]
    told: list[dict[str, Any]] = []
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield told
    finally:
        for process in running:
            out, err = process.communicate(timeout=300)
            told.append(json.loads(out) if process.returncode == 0 else {"wrong": [err[-3000:]], "done": {}, "slowest": 0})
