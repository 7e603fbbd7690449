"""COPY (query) TO, cursors and EXPLAIN around a query that is split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import psycopg
import pytest
import yaml

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential, Protocol

SORTED = "SELECT id, full_name, upper(city) FROM patients ORDER BY full_name, id"
PROTOCOLS: tuple[Protocol, ...] = ("simple", "extended")
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def pair(split_clinic: Clinic) -> Iterator[tuple[Connection, Connection]]:
    """A session with the plaintext twin, and one through the proxy."""
    split_clinic.seed(7)
    with psycopg.connect(split_clinic.plain_dsn) as plain, psycopg.connect(split_clinic.proxy_dsn) as proxied:
        yield plain, proxied


OPTIONS = ("", "WITH (FORMAT csv, HEADER)", "(FORMAT binary)", "WITH CSV FORCE QUOTE *", "(DELIMITER '|', NULL 'nothing')")


@pytest.mark.parametrize("options", OPTIONS)
def test_copy(pair: tuple[Connection, Connection], options: str) -> None:
    said = []
    for conn in pair:
        said.append(_copied(conn, f"COPY ({SORTED}) TO STDOUT {options}"))
        said.append(conn.execute("SELECT count(*) FROM patients").fetchone())  # type: ignore[arg-type]
    assert said[:2] == said[2:]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT full_name || 1 / (id - 3) FROM patients",
        "SELECT full_name || nothing FROM patients",
        "WITH nobody AS (SELECT upper(full_name), 'a'::int FROM patients) SELECT upper(full_name) FROM patients",
    ],
)
def test_copy_that_fails(pair: tuple[Connection, Connection], query: str) -> None:
    said = []
    for conn in pair:
        with pytest.raises(psycopg.Error) as failed:
            _copied(conn, f"COPY ({query}) TO STDOUT")
        said.append((failed.value.sqlstate, failed.value.diag.message_primary, failed.value.diag.statement_position))
        said.append((conn.info.transaction_status,))  # type: ignore[arg-type]
        conn.rollback()
    assert said[:2] == said[2:]


def _copied(conn: Connection, statement: str) -> bytes:
    with conn.cursor().copy(statement.encode()) as copy:
        return b"".join(bytes(part) for part in copy)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cursor(kept_both: Differential, protocol: Protocol) -> None:
    def run(statement: str, **options: int) -> None:
        kept_both.run(statement, protocol=protocol, ordered=True, **options)  # type: ignore[arg-type]

    run("BEGIN")
    run(f'DECLARE "My c" SCROLL CURSOR FOR {SORTED}')
    for statement in ("FETCH 2 FROM", "FETCH", "MOVE 1 IN", "FETCH BACKWARD 2 FROM", "FETCH ALL FROM", "FETCH ABSOLUTE 1 FROM"):
        run(f'{statement} "My c"' if " " in statement else 'FETCH "My c"')
    # Of a cursor that a simple Query has declared, too, the columns are described.
    kept_both.run('FETCH LAST FROM "My c"', result_format=1, ordered=True)
    kept_both.run('FETCH PRIOR FROM "My c"', named=True, ordered=True)
    run("SELECT upper(full_name) FROM patients ORDER BY id LIMIT 1")
    run("SAVEPOINT s")
    run(f'DECLARE "My c" CURSOR FOR {SORTED}')
    run("ROLLBACK TO s")
    run("DECLARE later CURSOR FOR SELECT max(full_name) FROM patients")
    run("FETCH 1 FROM later")
    run("ROLLBACK TO s")
    run("FETCH 1 FROM later")
    run("ROLLBACK TO s")
    run('FETCH FIRST FROM "My c"')
    run('CLOSE "My c"')
    run('FETCH 1 FROM "My c"')
    run("ROLLBACK")
    run(f"DECLARE outside CURSOR FOR {SORTED}")
    run("FETCH 1 FROM outside")
    run("BEGIN")
    run(f"DECLARE held NO SCROLL CURSOR WITH HOLD FOR {SORTED}")
    run("FETCH 1 FROM held")
    run("COMMIT")
    run("FETCH 2 FROM held")
    run("CLOSE held")
    run("BEGIN")
    run(f"DECLARE gone CURSOR FOR {SORTED}")
    run("COMMIT")
    run("FETCH 1 FROM gone")
    # Where rows are locked it only goes forward.
    run("BEGIN")
    run("DECLARE cursor CURSOR FOR SELECT upper(full_name) FROM patients ORDER BY id FOR UPDATE")
    run("FETCH 2 FROM cursor")
    run("FETCH BACKWARD 1 FROM cursor")
    run("ROLLBACK")


def test_server_side_cursors_of_psycopg(pair: tuple[Connection, Connection]) -> None:
    said: list[list[object]] = []
    for conn in pair:
        for binary in (False, True):
            with conn.cursor(name="c", scrollable=True) as cursor:
                cursor.execute(SORTED, binary=binary)
                first = [cursor.fetchmany(3), cursor.fetchone()]
                cursor.scroll(-2)
                said.append([*first, cursor.fetchall()])
            conn.commit()
            with conn.cursor(name="h", withhold=True) as cursor:
                cursor.execute(SORTED, binary=binary)
                conn.commit()
                said.append([cursor.fetchall()])
            conn.commit()
    assert said[: len(said) // 2] == said[len(said) // 2 :]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_prepare_and_execute(both: Differential, protocol: Protocol) -> None:
    def run(statement: str, **options: int) -> None:
        both.run(statement, protocol=protocol, **options)  # type: ignore[arg-type]

    run("PREPARE named (text, int) AS SELECT id, full_name FROM patients WHERE full_name ILIKE $1 ORDER BY full_name LIMIT $2")
    run("EXECUTE named ('%zo%', 3)")
    run("EXECUTE named ('%ZO%', NULL)")
    run("EXECUTE named ('it''s %', '2')")
    run("EXECUTE named ('%zo%')")
    run("PREPARE named AS SELECT upper(full_name) FROM patients")
    run("PREPARE guessed AS SELECT full_name || $1 FROM patients WHERE id = $2 ORDER BY id")
    run("EXECUTE guessed ('!', 2)")
    run("EXECUTE guessed ('!', -2::int)")
    run("EXECUTE guessed ('!', 'two')")
    run("PREPARE wrong AS SELECT full_name || nothing FROM patients")
    run("DEALLOCATE named")
    run("EXECUTE named ('%zo%', 3)")
    run("PREPARE named AS SELECT max(full_name) FROM patients")
    run("EXECUTE named")
    run("BEGIN")
    run("EXECUTE named")
    run("EXECUTE wrong")
    run("ROLLBACK")
    run("PREPARE with_constants (int) AS SELECT upper(full_name) || 'x' || $1 FROM patients WHERE id = 1")
    run("EXECUTE with_constants (1)")
    run("UPDATE patients SET full_name = 'Zo' WHERE id = 1")
    run("CREATE TABLE beside (id int)")  # so that it is planned again
    run("EXECUTE with_constants (2)")
    run("DROP TABLE beside")
    run("EXPLAIN EXECUTE with_constants ('two')")
    run("EXPLAIN EXECUTE with_constants")
    run("DEALLOCATE ALL")
    run("EXECUTE guessed ('!', 2)")


def test_explain_execute(pair: tuple[Connection, Connection]) -> None:
    prepared = "PREPARE q (int) AS SELECT upper(full_name) || 'x' FROM patients WHERE id = $1"
    said = []
    for conn in pair:
        conn.execute(prepared.encode())
        plans = [
            [str(line) for (line,) in conn.execute(f"EXPLAIN ({options}) EXECUTE q (2)".encode()).fetchall()]
            for options in ("COSTS OFF", "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF")
        ]
        said.append(plans)
    (direct, _), (through, measured) = said
    assert through[: len(direct)] == direct
    assert through[len(direct)] == "Computed beside the proxy, over the opened rows of that:"
    assert "rows=1" in measured[0]


def test_a_statement_of_the_protocol_is_executed_by_sql(pair: tuple[Connection, Connection]) -> None:
    said = []
    for conn in pair:
        conn.pgconn.prepare(b"by_protocol", b"SELECT id FROM patients WHERE full_name ILIKE $1 ORDER BY full_name")
        said.append(conn.execute("EXECUTE by_protocol ('%zo%')").fetchall())
    assert said[0] == said[1]
    conn = pair[1]
    conn.execute("PREPARE by_sql AS SELECT upper(full_name) FROM patients")
    assert conn.pgconn.exec_prepared(b"by_sql", []).error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"0A000"
    conn.rollback()
    for refused in ("EXECUTE by_protocol (upper('%zo%'))", "EXECUTE by_protocol ((SELECT '%zo%'))"):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(refused.encode())
        conn.rollback()


def test_more_cursors_than_sessions_of_the_engine(split_clinic: Clinic) -> None:
    split_clinic.seed()
    with psycopg.connect(split_clinic.proxy_dsn) as conn:
        for _ in range(3):
            for n in range(4):
                conn.execute(f"DECLARE c{n} CURSOR FOR {SORTED}".encode())
            assert len(conn.execute("FETCH ALL FROM c2").fetchall()) == 5
            conn.rollback()
        assert len(conn.execute(SORTED).fetchall()) == 5


def test_explain(split_clinic: Clinic) -> None:
    split_clinic.seed()
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        for statement in (f"EXPLAIN (COSTS OFF) {SORTED}", f"explain {SORTED} LIMIT 3"):
            for prepare in (False, True):
                cursor = conn.execute(statement.encode(), prepare=prepare)
                assert [c.name for c in cursor.description or ()] == ["QUERY PLAN"]
                lines = [str(line) for (line,) in cursor]
                heading = lines.index("Computed beside the proxy, over the opened rows of that:")
                assert "Seq Scan on patients" in lines[heading - 1]
                assert any("Sort Key" in line for line in lines[heading:])


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_explain_for_programs(split_clinic: Clinic, prepare: bool, binary: bool) -> None:
    split_clinic.seed()
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:

        def plans(form: str) -> Any:
            cursor = conn.execute(f"EXPLAIN (FORMAT {form}, VERBOSE) {SORTED}".encode(), prepare=prepare, binary=binary)
            (row,) = cursor.fetchall()
            assert cursor.statusmessage == "EXPLAIN"
            return row[0]

        source, rest = plans("json")
        assert source["Plan"]["Relation Name"] == "patients"
        assert rest["Plan"]["Node Type"] == "Sort"
        root = ET.fromstring(plans("xml"))
        assert [child.tag.rpartition("}")[2] for child in root] == ["Query", "Query"]
        source, rest = yaml.safe_load(plans("yaml"))
        assert (source["Plan"]["Relation Name"], rest["Plan"]["Node Type"]) == ("patients", "Sort")
        written = conn.execute(b"EXPLAIN (FORMAT JSON) UPDATE patients SET notes = notes || 'x' WHERE id = 1", prepare=prepare)
        assert len(written.fetchall()[0][0]) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_binary_cursor(kept_both: Differential, protocol: Protocol) -> None:
    def run(statement: str, **options: int) -> None:
        kept_both.run(statement, protocol=protocol, ordered=True, **options)  # type: ignore[arg-type]

    run("BEGIN")
    run(f"DECLARE b BINARY SCROLL CURSOR FOR {SORTED}")
    for statement in ("FETCH 2 FROM b", "MOVE 1 FROM b", "FETCH ALL FROM b", "FETCH PRIOR FROM b"):
        run(statement)
    if protocol == "extended":
        run("FETCH FIRST FROM b", result_format=1)
        run("FETCH NEXT FROM b", named=True)
    run(f"DECLARE held BINARY CURSOR WITH HOLD FOR {SORTED}")
    run("COMMIT")
    run("FETCH 2 FROM held")
    run("CLOSE held")
