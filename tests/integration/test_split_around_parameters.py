"""Cursors and EXPLAIN around a query that is split and has parameters, and EXPLAIN of writes."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential

SEARCH = "SELECT id, full_name || $1 FROM patients WHERE full_name ILIKE $2 AND id < $3 ORDER BY full_name, id"
VALUES = ("!", "%e%", 100)
WRITES = (
    ("UPDATE patients SET notes = notes || $1 WHERE id = $2", ("x", 1)),
    ("DELETE FROM visits WHERE diagnosis ILIKE $1", ("%a%",)),
    ("INSERT INTO patients (ssn) VALUES (initcap($1)) RETURNING ssn", ("x",)),
    ("INSERT INTO patients (ssn) VALUES ($1) RETURNING upper(ssn)", ("x",)),
    (
        "MERGE INTO patients p USING visits v ON v.patient_id = p.id WHEN MATCHED THEN UPDATE SET notes = upper(p.notes) || $1",
        ("x",),
    ),
    ("INSERT INTO visits (patient_id, diagnosis) SELECT id, upper(full_name) FROM patients WHERE id < $1", (3,)),
)


@pytest.mark.parametrize("formats", [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_a_cursor_with_parameters(kept_both: Differential, formats: tuple[int, int]) -> None:
    given, shown = formats
    for named in (False, True):
        kept_both.run("BEGIN")
        declared = kept_both.run(f"DECLARE c SCROLL CURSOR FOR {SEARCH}", VALUES, param_format=given, named=named)
        assert declared.sqlstate is None, declared.message
        for statement in ("FETCH 2 FROM c", "FETCH ALL FROM c", "FETCH FIRST FROM c", "MOVE BACKWARD ALL IN c", "FETCH c"):
            outcome = kept_both.run(statement, result_format=shown, ordered=True)
            assert outcome.sqlstate is None, outcome.message
        kept_both.run(f"DECLARE held CURSOR WITH HOLD FOR {SEARCH}", ("?", "%zo%", 50), param_format=given)
        kept_both.run("COMMIT")
        assert kept_both.run("FETCH ALL FROM held", ordered=True).sqlstate is None
        kept_both.run("CLOSE held")


def test_errors_of_its_parameters(kept_both: Differential) -> None:
    kept_both.run("BEGIN")
    kept_both.run(f"DECLARE c CURSOR FOR {SEARCH.replace('$3', '$3::int')}", ("!", "%", "x"))
    kept_both.run("ROLLBACK")
    kept_both.run("BEGIN")
    kept_both.run("DECLARE c CURSOR FOR SELECT full_name || $1 || (1 / $2) FROM patients", ("!", 0))
    kept_both.run("FETCH 1 FROM c")
    kept_both.run("ROLLBACK")
    kept_both.run(f"DECLARE c CURSOR FOR {SEARCH}", protocol="simple")
    kept_both.run("DECLARE c CURSOR FOR SELECT upper(full_name) FROM patients WHERE id = $1", protocol="simple")


def test_server_side_cursors_of_psycopg(split_clinic: Clinic) -> None:
    split_clinic.seed(7)
    said: list[list[object]] = []
    for dsn in (split_clinic.plain_dsn, split_clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            for binary in (False, True):
                with conn.cursor(name="c", scrollable=True) as cursor:
                    query = "SELECT id, upper(full_name) FROM patients WHERE full_name ILIKE %s AND id < %s ORDER BY full_name, id"
                    cursor.execute(query, ("%e%", 100), binary=binary)
                    first = [cursor.fetchmany(2), cursor.fetchone()]
                    cursor.scroll(-1)
                    said.append([*first, cursor.fetchall()])
                conn.commit()
    assert said[:2] == said[2:]
    assert said[0][0]


@pytest.mark.parametrize("prepare", [False, True])
def test_explain_with_parameters(split_clinic: Clinic, prepare: bool) -> None:
    split_clinic.seed(3)
    query = "SELECT id, full_name || %s FROM patients WHERE full_name ILIKE %s AND id < %s ORDER BY full_name"
    with psycopg.connect(split_clinic.proxy_dsn) as conn:
        for values in (VALUES, ("?", "a", 3)):
            rows = conn.execute(f"EXPLAIN (COSTS off) {query}".encode(), values, prepare=prepare)
            shown = "\n".join(str(row[0]) for row in rows)
            assert "Computed beside the proxy" in shown
            assert "Sort" in shown


@pytest.mark.parametrize(("statement", "values"), WRITES)
def test_explain_of_writes(split_clinic: Clinic, statement: str, values: tuple[object, ...]) -> None:
    split_clinic.seed(3)
    with psycopg.connect(split_clinic.proxy_dsn) as conn:
        state = "SELECT count(*), max(notes) FROM patients"
        before = conn.execute(state).fetchall()
        written = statement
        for n in range(len(values), 0, -1):
            written = written.replace(f"${n}", "%s")
        shown = "\n".join(str(row[0]) for row in conn.execute(f"EXPLAIN {written}".encode(), values))
        assert "Computed beside the proxy" in shown
        literal = psycopg.ClientCursor(conn).mogrify(written, values)
        again = psycopg.ClientCursor(conn).execute(sql.SQL("EXPLAIN ") + sql.SQL(literal)).fetchall()
        assert len(again) > 2
        assert conn.execute(state).fetchall() == before
