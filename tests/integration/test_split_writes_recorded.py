"""Records of writes that are split: the client's own statement, in each of them, without a constant or a parameter of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from phiproxy.plan.statement_record import shape
from phiproxy.sql.text.audit_text import visible_shape
from tests.harness.audit import audited_site, log_of, no_secret_is_in
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.integration.test_split_writes import STATEMENTS, WITH_PARAMETERS

SECRET = "Zq7-secret"
SEEN = f"notes = upper(notes) || '{SECRET}'"
OTHERS: dict[str, tuple[str, tuple[object, ...]]] = {
    "every kind of constant": (
        f"UPDATE patients SET {SEEN} || E'{SECRET}\\n' || $${SECRET}$$ || U&'{SECRET}' /* {SECRET} */",
        (),
    ),
    "merge": (
        f"MERGE INTO patients USING (VALUES (1, '{SECRET}')) v (k, n) ON id = k WHEN MATCHED THEN UPDATE SET notes = notes || n",
        (),
    ),
    "in conflict": (
        f"INSERT INTO patients (id, notes) VALUES (1, '{SECRET}') ON CONFLICT (id) DO UPDATE SET notes = upper(EXCLUDED.notes)",
        (),
    ),
    "of rows that a write returns": (
        f"WITH x AS (UPDATE patients SET {SEEN} RETURNING id) SELECT p.ssn FROM x JOIN patients p USING (id)",
        (),
    ),
    "explained": (f"EXPLAIN (ANALYZE, COSTS OFF) UPDATE patients SET {SEEN}", ()),
    "parameters": ("UPDATE patients SET notes = upper(notes) || $1 WHERE full_name ILIKE $2", (SECRET, "%o%")),
    "one that fails": (f"INSERT INTO patients (id, notes) SELECT id, upper(notes) || '{SECRET}' FROM patients", ()),
}
CASES = {name: (text, ()) for name, text in STATEMENTS.items() if "members" not in text} | WITH_PARAMETERS | OTHERS


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path) -> Iterator[Site]:
    more = f"compute: {{engine: embedded, directory: {engine_directory}, limits: {{rows: 500, sessions: 4, timeout: 300s}}}}\n"
    directory, settings = tmp_path_factory.mktemp("recorded"), "directory: audit, proxy: one"
    with audited_site(postgres_server, directory, settings, more=more) as site:
        with psycopg.connect(site.proxy_dsn) as conn:
            for number in range(1, 4):
                conn.execute(
                    "INSERT INTO patients (mrn, ssn, full_name, notes, city) VALUES (%s, %s, 'Ozo', 'seen', 'Turku')",
                    (f"M-{number}", f"{number}"),
                )
                conn.execute("INSERT INTO visits (patient_id, mrn, diagnosis) VALUES (%s, 'm', 'flu a')", (number,))
        yield site


def recorded(site: Site, text: str, given: Sequence[object], *, simple: bool) -> list[dict[str, Any]]:
    """Run a statement, and take back what it has done; returns what is recorded of it."""
    cursor_factory = psycopg.ClientCursor if simple else psycopg.RawCursor
    before = len(log_of(site))
    with psycopg.connect(site.proxy_dsn) as conn:
        try:
            cursor_factory(conn).execute(text.encode(), given or None)
        except psycopg.errors.UniqueViolation:
            assert text == OTHERS["one that fails"][0]
        conn.rollback()
    return [record for record in log_of(site)[before:] if record["kind"] != "login"]


@pytest.mark.parametrize("name", CASES)
def test_each_record_has_the_statement_that_the_client_has_sent(site: Site, name: str) -> None:
    text, given = CASES[name]
    expected = shape(visible_shape(text.encode()))._asdict()
    done = recorded(site, text, given, simple=False)
    assert done, "it touches something protected"
    assert [record["statement"] for record in done] == [expected] * len(done)
    if not given:
        again = recorded(site, text, (), simple=True)
        assert [record["statement"] for record in again] == [expected] * len(again)
        assert len(again) == len(done)
    no_secret_is_in(site, SECRET)


def test_what_is_prepared_and_executed_by_sql(site: Site) -> None:
    before = len(log_of(site))
    with psycopg.connect(site.proxy_dsn) as conn:
        conn.execute(f"PREPARE q AS UPDATE patients SET notes = upper(notes) || '{SECRET}' WHERE id = $1".encode())
        conn.execute("EXECUTE q(1)")
        conn.rollback()
    texts = [record["statement"]["text"] for record in log_of(site)[before:] if record["kind"] == "execution"]
    assert {*texts} <= {"EXECUTE q(?)", "PREPARE q AS UPDATE patients SET notes = upper(notes) || ? WHERE id = ?"}
    assert texts.count("EXECUTE q(?)") == 2
    no_secret_is_in(site, SECRET)


def test_each_statement_of_several(site: Site) -> None:
    first, second = "UPDATE patients SET notes = upper(notes) WHERE id = 1", "UPDATE visits SET diagnosis = upper(diagnosis) || 'x'"
    done = recorded(site, f"{first}; {second}; SELECT 1", (), simple=True)
    assert [record["statement"]["text"] for record in done] == [
        text for each in (first, second) for text in [visible_shape(each.encode())] * 2
    ]
