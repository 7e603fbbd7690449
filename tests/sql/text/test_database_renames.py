"""Statements that would let a policy's database go by another name."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.text import database_renames
from phiproxy.sql.text.database_renames import guard_of

GUARD = guard_of(["clinic", "Klinik Süd", "n" * 70])


def refused(text: str | bytes) -> StatementRefused | None:
    return GUARD(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "ALTER DATABASE clinic RENAME TO other",
        "alter/**/database /* /* */ */ CLINIC rename to other",
        'ALTER DATABASE "Klinik Süd" RENAME TO other',
        'ALTER DATABASE U&"\\0063linic" RENAME TO other',
        "ALTER DATABASE U&\"!0063linic\" UESCAPE '!' RENAME TO other",
        f"ALTER DATABASE {'n' * 80} RENAME TO other",
        "CREATE DATABASE other TEMPLATE clinic",
        "CREATE DATABASE other WITH OWNER x TEMPLATE = 'clinic' STRATEGY = wal_log",
        "SELECT 1; BEGIN; ALTER DATABASE clinic RENAME TO other; COMMIT",
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE clinic ' || 'RENAME TO other'; END $$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ALTER DATABASE clinic RENAME TO other; END $$",
        "SELECT dblink_exec('dbname=postgres', 'create  database other template clinic')",
        "CALL run('alter database clinic rename to other'::text)",
        "EXECUTE run('alter database clinic rename to other')",
        "WITH w AS (SELECT run('alter database clinic rename to other')) SELECT * FROM w",
        # As the server reads it with standard_conforming_strings = off: the backslash takes the quote.
        "SELECT 'a\\'', 'b'; ALTER DATABASE clinic RENAME TO other; --'",
        "SELECT '\\', 'x'; ALTER DATABASE clinic RENAME TO other; --'",
        # Newer than the grammar here, or wrong: nobody knows.
        "CREATE DATABASE other TEMPLATE clinic NEWLY",
    ],
)
def test_the_database_of_a_policy_is_not_renamed_or_copied(text: str) -> None:
    error = refused(text)
    assert error is not None
    assert error.sqlstate == "0A000"
    assert error.hint


def test_in_a_client_encoding_that_is_not_known() -> None:
    assert refused("ALTER DATABASE clinic RENAME TO schön".encode("latin-1")) is not None
    assert refused("SELECT 'database schön'".encode("latin-1")) is None


@pytest.mark.parametrize(
    "text",
    [
        "ALTER DATABASE other RENAME TO clinic_2",
        "ALTER DATABASE clinic SET work_mem = '1MB'",
        "ALTER DATABASE clinic OWNER TO somebody",
        "DROP DATABASE clinic",
        "CREATE DATABASE clinic2",
        "CREATE DATABASE clinic",
        "CREATE DATABASE other TEMPLATE template0",
        "CREATE DATABASE other TEMPLATE DEFAULT",
        "COMMENT ON DATABASE clinic IS 'do not rename'",
        "INSERT INTO notes VALUES ('ALTER DATABASE clinic RENAME TO other')",
        "SELECT to_tsvector('how to create, and rename, a database of the clinic')",
        "SELECT datname AS renamed FROM pg_database WHERE datname = 'clinic'",
        "DO $$ BEGIN RAISE NOTICE 'a database'; END $$",
        "",
    ],
)
def test_other_statements_about_databases_pass(text: str) -> None:
    assert refused(text) is None


def test_the_template_that_nobody_names() -> None:
    guard = guard_of(["template1"])
    for text in (
        b"CREATE DATABASE other",
        b"CREATE DATABASE other TEMPLATE DEFAULT",
        b"DO $$ BEGIN PERFORM f('create database x'); END $$",
    ):
        assert guard(text) is not None
    assert guard(b"CREATE DATABASE other TEMPLATE template0") is None


def test_a_long_text_is_searched_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_renames, "PIECE", 16)
    for blanks in range(32):
        assert refused(" " * blanks + "ALTER DataBase clinic RENAME TO other") is not None
        assert refused(" " * blanks + "ALTER DataBas clinic RENAME TO other") is None


def test_the_refusal_points_at_the_statement() -> None:
    assert getattr(refused("/* ü */  ALTER DATABASE clinic RENAME TO other"), "position", None) == 10
