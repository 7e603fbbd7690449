"""Roles that see masks, where statements are split: the engine is given masks, and only to be shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.harness.audit import last
from tests.harness.backend import Backend
from tests.harness.server import PostgresServer
from tests.integration.masked_site import Connection, MaskedSite, open_masked_site
from tests.integration.test_masks import INSERT, MASKED, NAME, RECORD, ROW, SHOWN, SSN, USES
from tests.session.frames import SYNC, bind, error_fields, execute, parse


@pytest.fixture(scope="module")
def masked(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path
) -> Iterator[MaskedSite]:
    """The clinic with one person in it, and an engine."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}, limits: {{rows: 500, sessions: 4, timeout: 300s}}}}\n"
    settings += "audit: {directory: audit, proxy: one}\n"
    with open_masked_site(postgres_server, tmp_path_factory.mktemp("masks-split"), settings=settings) as masked:
        with masked.as_owner() as conn:
            conn.execute(INSERT, ROW)
            conn.execute(RECORD.encode())
            conn.execute("INSERT INTO calls (id, person, mrn, note) VALUES (1, 1, 'M-0000001', 'called')")
        yield masked


@pytest.fixture
def nurse(masked: MaskedSite) -> Iterator[Connection]:
    with masked.kept("mask_nurse") as conn:
        yield conn


@pytest.mark.parametrize("statement", USES)
def test_the_engine_computes_nothing_over_a_masked_column(nurse: Connection, statement: str) -> None:
    nurse.execute("BEGIN")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        nurse.execute(statement.encode())
    nurse.execute("ROLLBACK")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        psycopg.ClientCursor(nurse).execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT upper(name) FROM people WHERE ssn = '1'",
        "SELECT upper(name) FROM people ORDER BY ssn",
        "SELECT upper(name), length(ssn) FROM people",
        "SELECT count(*) FROM people WHERE name ILIKE '%z%' AND ssn ILIKE '%1120'",
        "SELECT name, ssn FROM people ORDER BY name, ssn",
        "SELECT max(name), max(ssn) FROM people",
        "SELECT p.id FROM people p JOIN calls c ON c.note || '' = p.ssn",
        "SELECT DISTINCT upper(name), ssn FROM people",
        "UPDATE people SET name = name || ssn",
        "WITH x AS (DELETE FROM people WHERE id = 1 RETURNING id, ssn) INSERT INTO people (id, name) SELECT id, upper(ssn) FROM x",
        "WITH x AS (DELETE FROM people WHERE id = 1 RETURNING id, ssn) INSERT INTO people (id, name) SELECT id, ssn FROM x",
        "WITH x AS (UPDATE people SET name = upper(name) RETURNING id) SELECT 1 FROM x JOIN people p USING (id) WHERE p.ssn > '1'",
        "UPDATE people SET name = upper(name) WHERE ssn = '1'",
        "UPDATE people SET name = upper(name), ssn = 'x'",
        "INSERT INTO people (id, name) SELECT id + 50, upper(ssn) FROM people",
        "INSERT INTO people (id, name, ssn) SELECT id + 50, upper(name), ssn FROM people",
        "INSERT INTO people (id, name) VALUES (60, upper('x')) RETURNING ssn = 'x'",
        "UPDATE people SET name = initcap(name) RETURNING upper(ssn)",
        "COPY (SELECT upper(name), upper(ssn) FROM people) TO STDOUT",
        "DECLARE c CURSOR FOR SELECT upper(name) FROM people ORDER BY ssn",
        "EXPLAIN (ANALYZE) SELECT upper(name) FROM people ORDER BY ssn",
        "PREPARE p AS SELECT upper(name) FROM people ORDER BY ssn",
    ],
)
def test_nor_beside_what_it_computes(nurse: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is masked for this role"):
        nurse.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    ["SELECT row_to_json(p) FROM people p", "SELECT p::text, upper(name) FROM people p",
     "SELECT q.p FROM (SELECT p FROM people p) q", "SELECT (q.p).name FROM (SELECT p FROM people p UNION SELECT p FROM people p) q",
     "SELECT md5(p::text) FROM people p",
     "SELECT (p).*::text FROM people p"],
)  # fmt: skip
def test_whole_rows_are_refused(nurse: Connection, statement: str) -> None:
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
        nurse.execute(statement.encode())


@pytest.mark.parametrize(("statement", "value"), SHOWN)
def test_it_is_shown_as_its_mask(nurse: Connection, statement: str, value: str) -> None:
    row = nurse.execute(statement.encode()).fetchone()
    assert row is not None
    assert str(row[0]) == value


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT ssn, upper(name) FROM people", [(MASKED, NAME.upper())]),
        ("SELECT ssn FROM people WHERE name ILIKE '%zork%' ORDER BY name", [(MASKED,)]),
        ("SELECT born::date, upper(name) FROM people ORDER BY name", None),
        ("SELECT s, upper(n) FROM (SELECT ssn AS s, name AS n FROM people) q ORDER BY n", [(MASKED, NAME.upper())]),
        ("UPDATE people SET name = upper(name) WHERE id = 1 RETURNING ssn", [(MASKED,)]),
        ("SELECT doc->>'ssn', doc->'name'->>'given', upper(name) FROM people", [(MASKED, None, NAME.upper())]),
        ("SELECT doc->'name', doc->>'ward' FROM people ORDER BY name", [({"given": None, "family": "Zorkendorfer"}, "B2")]),
        ("SELECT s FROM (SELECT doc->>'born' AS s, name AS n FROM people) q WHERE n LIKE 'J%'", [("1961-01-01",)]),
        ("WITH x AS (UPDATE people SET name = upper(name) RETURNING id) SELECT p.ssn FROM x JOIN people p USING (id)", [(MASKED,)]),
        ("UPDATE people SET name = upper(name) WHERE id = 1 RETURNING doc->>'ssn', upper(name)", [(MASKED, NAME.upper())]),
        ("SELECT ssn FROM people p WHERE EXISTS (SELECT FROM calls c WHERE c.note ILIKE 'CALL%' AND c.person = p.id)", [(MASKED,)]),
    ],
)
def test_masks_beside_what_is_computed(masked: MaskedSite, statement: str, rows: list[tuple[object, ...]] | None) -> None:
    for binary in (False, True):
        with masked.as_role("mask_nurse") as nurse, nurse.cursor(binary=binary) as cursor:
            nurse.execute("BEGIN")
            found = cursor.execute(statement.encode()).fetchall()
            assert SSN not in str(found)
            assert rows is None or found == rows
            assert rows is not None or str(found[0][0]) == "1961-01-01"
            nurse.execute("ROLLBACK")


def test_cursors_and_statements_of_another_role(masked: MaskedSite) -> None:
    query = "SELECT ssn, upper(name) FROM people ORDER BY name"
    with masked.as_role("mask_pool", prepare_threshold=0) as pool:
        pool.execute("SET ROLE mask_clerk")
        assert pool.execute(query).fetchall() == [(SSN, NAME.upper())]
        pool.execute(f"PREPARE p AS {query}".encode())
        assert pool.execute("EXECUTE p").fetchall() == [(SSN, NAME.upper())]
        pool.execute("SET ROLE mask_nurse")
        assert pool.execute(query).fetchall() == [(MASKED, NAME.upper())]
        assert pool.execute("EXECUTE p").fetchall() == [(MASKED, NAME.upper())]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pool.execute("SELECT upper(name) FROM people ORDER BY ssn")
        pool.execute("SET ROLE mask_clerk")
        pool.execute("BEGIN")
        pool.execute(f"DECLARE c CURSOR FOR {query}".encode())
        pool.execute("SET LOCAL ROLE mask_nurse")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pool.execute("FETCH c")
        pool.execute("ROLLBACK")


def test_a_cursor_that_was_rolled_back_is_not_there_for_another_role(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool") as pool:
        for execute in (pool.execute, psycopg.ClientCursor(pool).execute):
            pool.execute("SET ROLE mask_clerk")
            pool.execute("BEGIN")
            pool.execute("DECLARE older CURSOR FOR SELECT upper(name) FROM people")
            pool.execute("SAVEPOINT s")
            pool.execute("DECLARE c CURSOR FOR SELECT ssn, upper(name) FROM people")
            assert execute("FETCH c").fetchall() == [(SSN, NAME.upper())]
            pool.execute("ROLLBACK TO s")
            pool.execute("SET LOCAL ROLE mask_nurse")
            for name, error in (("c", psycopg.errors.InvalidCursorName), ("older", psycopg.errors.InsufficientPrivilege)):
                pool.execute("SAVEPOINT r")
                with pytest.raises(error):
                    execute(f"FETCH {name}".encode())
                pool.execute("ROLLBACK TO r")
            pool.execute("ROLLBACK")


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_a_copy_shows_masks_beside_what_is_computed(nurse: Connection, form: str) -> None:
    with nurse.cursor().copy(f"COPY (SELECT ssn, upper(name), born FROM people) TO STDOUT (FORMAT {form})".encode()) as copy:
        copy.set_types(["text", "text", "date"])
        (row,) = copy.rows() if form != "csv" else [tuple(b"".join(copy).decode().strip().split(","))]
    assert [str(value) for value in row] == [MASKED, NAME.upper(), "1961-01-01"]


@pytest.mark.parametrize("forgets", ["RESET ALL", "DEALLOCATE ALL", "DISCARD PLANS", "DISCARD TEMP", "DISCARD SEQUENCES"])
def test_what_a_session_forgets_while_a_cursor_is_open(masked: MaskedSite, forgets: str) -> None:
    """A cursor goes on, as in PostgreSQL; it was opened by this role, which stays."""
    with masked.as_role("mask_nurse") as nurse:
        nurse.execute("PREPARE p AS SELECT ssn, upper(name) FROM people")
        nurse.execute("BEGIN")
        nurse.execute("DECLARE c CURSOR FOR SELECT ssn, upper(name) FROM people, generate_series(1, 3)")
        assert nurse.execute("FETCH c").fetchall() == [(MASKED, NAME.upper())]
        nurse.execute(forgets.encode())
        assert nurse.execute("FETCH c").fetchall() == [(MASKED, NAME.upper())]
        nurse.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            nurse.execute("DISCARD ALL")
        nurse.execute("ROLLBACK TO s")
        assert nurse.execute("FETCH c").fetchall() == [(MASKED, NAME.upper())]
        if forgets == "DEALLOCATE ALL":
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                nurse.execute("EXECUTE p")
        else:
            assert nurse.execute("EXECUTE p").fetchall() == [(MASKED, NAME.upper())]
        nurse.execute("ROLLBACK")


def test_what_is_reset_shows_the_cursor_to_the_role_that_then_is(masked: MaskedSite) -> None:
    """RESET ALL does not reset the role, DISCARD ALL does; a cursor WITH HOLD goes with it."""
    with masked.as_role("mask_pool") as pool:
        pool.execute("SET ROLE mask_clerk")
        with pool.transaction():
            pool.execute("DECLARE h CURSOR WITH HOLD FOR SELECT ssn, upper(name) FROM people, generate_series(1, 3)")
        pool.execute("RESET ALL")
        assert pool.execute("FETCH h").fetchall() == [(SSN, NAME.upper())]
        pool.execute("DISCARD ALL")
        with pytest.raises(psycopg.errors.InvalidCursorName):
            pool.execute("FETCH h")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pool.execute("SELECT ssn, upper(name) FROM people")


def test_the_record_of_a_portal_that_another_role_executes_has_the_text_of_its_query(masked: MaskedSite) -> None:
    query = "SELECT ssn, upper(name) FROM people WHERE city = 'Turku'"
    begins = [parse("BEGIN"), bind(), execute(), parse("SET ROLE mask_clerk"), bind(), execute(), SYNC]
    opens = [parse(query), bind(portal="c"), parse("SET ROLE mask_nurse"), bind(), execute(), SYNC]
    with closing(Backend(masked.dsn("mask_pool"))) as pool:
        told = pool.says([*begins, *opens, execute("c"), SYNC])
    assert [error_fields(frame)["C"] for frame in told if frame[:1] == b"E"] == ["42501"]
    record = last(masked.site, kind="refused")
    assert (record["outcome"], record["statement"]["text"]) == ("42501", "SELECT ssn, upper(name) FROM people WHERE city = ?")


def test_so_has_the_record_of_one_whose_rows_the_server_does_not_give(masked: MaskedSite, nurse: Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        nurse.execute("SELECT upper(name) FROM people WHERE 1 / (id - id) = 1")
    record = last(masked.site, kind="execution")
    assert (record["outcome"], record["statement"]["text"]) == ("22012", "SELECT upper(name) FROM people WHERE ? / (id - id) = ?")
