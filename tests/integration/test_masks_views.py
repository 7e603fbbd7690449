"""Roles that see masks, where views compute over masked columns: they are computed on the masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.integration.masked_site import MaskedSite, open_masked_site
from tests.integration.test_masks import INSERT, MASKED, NAME, ROW, SSN

VIEW = (
    "CREATE VIEW everybody AS SELECT id, name || ' ' || ssn AS label, ssn, city, extract(year FROM born) AS y FROM people;"
    "CREATE VIEW chosen AS SELECT id, upper(name) AS loud FROM people WHERE ssn LIKE '078%'"
)


@pytest.fixture(scope="module")
def masked(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path
) -> Iterator[MaskedSite]:
    """The clinic with one person in it, views over expressions, and an engine."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    directory = tmp_path_factory.mktemp("masks-views")
    first, second = VIEW.split(";")
    with open_masked_site(postgres_server, directory, settings=settings, view=first) as masked:
        with masked.as_owner() as conn:
            conn.execute(INSERT, ROW)
            conn.execute(second.encode())
            conn.execute("GRANT SELECT ON chosen TO PUBLIC")
        yield masked


@pytest.mark.parametrize("binary", [False, True])
def test_it_is_computed_on_masks(masked: MaskedSite, binary: bool) -> None:
    statements = [
        ("SELECT label FROM everybody WHERE id = 1", [f"{NAME} {MASKED}"], [f"{NAME} {SSN}"]),
        ("SELECT label FROM everybody WHERE label LIKE '%078-05%'", [], [f"{NAME} {SSN}"]),
        ("SELECT max(label) FROM everybody", [f"{NAME} {MASKED}"], [f"{NAME} {SSN}"]),
        ("SELECT ssn FROM everybody ORDER BY label", [MASKED], [SSN]),
        ("SELECT loud FROM chosen", [], [NAME.upper()]),
        ("SELECT row_to_json(e)::text FROM (SELECT label FROM everybody) e", [f'{{"label":"{NAME} {MASKED}"}}'], None),
    ]
    with masked.as_role("mask_nurse") as nurse, masked.as_role("mask_clerk") as clerk:
        for statement, as_masked, whole in statements:
            found = nurse.cursor(binary=binary).execute(statement.encode()).fetchall()
            assert SSN not in str(found)
            assert [value for (value,) in found] == as_masked
            if whole is not None:
                assert [value for (value,) in clerk.cursor(binary=binary).execute(statement.encode()).fetchall()] == whole


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT label FROM everybody WHERE ssn = '078-05-1120'",
        "SELECT label FROM everybody ORDER BY ssn",
        "SELECT upper(ssn) FROM everybody",
        "SELECT count(*) FROM everybody e JOIN people p ON p.ssn = e.ssn",
        "CREATE VIEW mine AS SELECT upper(ssn) AS u FROM people",
        "CREATE VIEW mine AS SELECT label FROM everybody",
    ],
)
def test_a_masked_column_is_only_shown(masked: MaskedSite, statement: str) -> None:
    with masked.kept("mask_nurse") as nurse, pytest.raises(psycopg.errors.InsufficientPrivilege):
        nurse.execute(statement.encode())


STORING = [
    "UPDATE people SET name = v.label FROM everybody v WHERE v.id = people.id",
    "UPDATE people SET (name, email) = (SELECT label, 'x' FROM everybody LIMIT 1)",
    "UPDATE people SET email = 'x' WHERE id IN (SELECT id FROM chosen)",
    "INSERT INTO calls (id, note) SELECT id + 50, label FROM everybody",
    "INSERT INTO calls (id, note) VALUES (50, (SELECT max(label) FROM everybody))",
    "MERGE INTO people p USING everybody v ON v.id = p.id WHEN MATCHED THEN UPDATE SET name = v.label",
    "DELETE FROM people p USING everybody v WHERE v.id = p.id AND v.label LIKE '%*%'",
    "WITH w AS (UPDATE people SET name = v.label FROM everybody v WHERE v.id = people.id RETURNING 1) SELECT count(*) FROM w",
    "EXPLAIN (ANALYZE) UPDATE people SET name = v.label FROM everybody v WHERE v.id = people.id",
    "PREPARE w AS UPDATE people SET name = v.label FROM everybody v WHERE v.id = people.id",
]


@pytest.mark.parametrize("statement", STORING)
def test_what_is_computed_on_masks_is_not_stored(masked: MaskedSite, statement: str) -> None:
    with masked.kept("mask_nurse") as nurse, masked.kept("mask_clerk") as clerk:
        for cursor in (nurse.cursor(), psycopg.ClientCursor(nurse)):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is masked for this role"):
                cursor.execute(statement.encode())
        clerk.execute("BEGIN")
        clerk.execute(statement.encode())
        clerk.execute("ROLLBACK")


def test_nor_by_a_statement_that_another_role_has_prepared(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool", prepare_threshold=0) as pool:
        for role, stored in (("mask_clerk", True), ("mask_nurse", False)):
            pool.execute(f"SET ROLE {role}".encode())
            pool.execute("BEGIN")
            try:
                pool.execute(STORING[0].encode())
                assert stored
            except psycopg.errors.InsufficientPrivilege:
                assert not stored
            pool.execute("ROLLBACK")


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE kept AS SELECT label FROM everybody", "SELECT label INTO kept FROM everybody",
                  "CREATE MATERIALIZED VIEW kept AS SELECT label FROM everybody"]
)  # fmt: skip
def test_no_table_is_made_of_it(masked: MaskedSite, statement: str) -> None:
    with masked.as_role("mask_nurse") as nurse, pytest.raises(psycopg.errors.FeatureNotSupported):
        nurse.execute(statement.encode())


@pytest.mark.parametrize("explain", ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE", "EXPLAIN (FORMAT json)"])
def test_no_plan_shows_the_constants_of_others(masked: MaskedSite, explain: str) -> None:
    with masked.as_role("mask_nurse") as nurse, masked.as_role("mask_clerk") as clerk:
        statement = f"{explain} SELECT loud FROM chosen WHERE loud > 'A'"
        assert "078%" in str(clerk.execute(statement.encode()).fetchall())
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="constants of views"):
            nurse.execute(statement.encode())
        assert nurse.execute(f"{explain} SELECT upper(name) FROM people".encode()).fetchall()


@pytest.mark.parametrize("explain", ["EXPLAIN VERBOSE", "EXPLAIN (ANALYZE, VERBOSE)"])
@pytest.mark.parametrize("write", ["INSERT INTO calls (id) VALUES (9)", "UPDATE calls SET note = DEFAULT"])
def test_no_plan_shows_the_constants_of_defaults(masked: MaskedSite, explain: str, write: str) -> None:
    statement = f"{explain} {write}".encode()
    with masked.as_owner() as owner:
        owner.execute("ALTER TABLE calls ALTER COLUMN note SET DEFAULT 'Sealed ' || current_date")
    try:
        with masked.as_role("mask_nurse") as nurse, masked.as_role("mask_clerk") as clerk:
            clerk.execute("BEGIN")
            assert "Sealed" in str(clerk.execute(statement).fetchall())
            clerk.execute("ROLLBACK")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="constants of views or defaults"):
                nurse.execute(statement)
    finally:
        with masked.as_owner() as owner:
            owner.execute("ALTER TABLE calls ALTER COLUMN note DROP DEFAULT")


def test_what_is_denied_is_not_computed_on(masked: MaskedSite) -> None:
    with masked.as_role("mask_dba") as dba:
        for statement in ("SELECT label FROM everybody", "SELECT loud FROM chosen", "SELECT count(*) FROM chosen"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                dba.execute(statement.encode())


def test_one_session_of_several_roles(masked: MaskedSite) -> None:
    query = "SELECT label FROM everybody"
    with masked.as_role("mask_pool", prepare_threshold=0) as pool:
        pool.execute("SET ROLE mask_clerk")
        assert pool.execute(query).fetchall() == [(f"{NAME} {SSN}",)]
        pool.execute("SET ROLE mask_nurse")
        assert pool.execute(query).fetchall() == [(f"{NAME} {MASKED}",)]
        pool.execute("SET ROLE mask_research")
        assert pool.execute(query).fetchall() == [(None,)]
