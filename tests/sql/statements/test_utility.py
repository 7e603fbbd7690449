"""Utility statements: which may name a protected table, and what each changes in the session."""

from __future__ import annotations

import pytest

from phiproxy.effects import Effects
from phiproxy.sql.statements.utility import effects, leaves_aborted
from phiproxy.sql.text.parse import messages, parse
from tests.sql.ask import ask


@pytest.mark.parametrize(
    "text",
    [
        "TRUNCATE patients",
        "LOCK TABLE patients",
        "ANALYZE patients",
        "VACUUM patients",
        "REINDEX TABLE patients",
        "GRANT SELECT ON patients TO bob",
        "REVOKE SELECT (ssn) ON patients FROM bob",
        "COMMENT ON TABLE patients IS 'x'",
        "DROP TABLE patients",
        "LISTEN patients",
        "CREATE TABLE log2 (notes text, ssn text)",
        "CREATE INDEX ON log (msg)",
        "SET statement_timeout = 5",
        "COPY log FROM STDIN",
        "COPY (SELECT msg FROM log) TO STDOUT",
        "DECLARE c CURSOR FOR SELECT notes FROM log",
        "ALTER SCHEMA other RENAME TO x",
    ],
)
def test_a_utility_statement_that_moves_no_value_passes(text: str) -> None:
    assert ask(text) == "="


@pytest.mark.parametrize(
    "text",
    [
        "CREATE VIEW v AS SELECT id FROM patients WHERE ssn = 'x'",
        "CREATE TABLE t AS SELECT ssn FROM patients",
        "CREATE TABLE t (LIKE patients)",
        "CREATE RULE r AS ON INSERT TO log DO ALSO INSERT INTO patients (ssn) VALUES (NEW.msg)",
        "CREATE TRIGGER t BEFORE INSERT ON patients FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE POLICY p ON patients USING (ssn = 'x')",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM patients'",
        "DO $$ BEGIN INSERT INTO patients (ssn) VALUES ('x'); END $$",
        "CALL p('insert into patients values (1)')",
        "ALTER TABLE patients RENAME TO p",
        "ALTER TABLE patients RENAME COLUMN ssn TO s",
        "ALTER TABLE patients SET SCHEMA archive",
        "ALTER TABLE log RENAME TO patients",
        "ALTER SCHEMA public RENAME TO x",
        "IMPORT FOREIGN SCHEMA x LIMIT TO (patients) FROM SERVER s INTO public",
    ],
)
def test_a_utility_statement_that_stores_sql_over_protected_columns_is_refused(text: str) -> None:
    assert ask(text) == "0A000"


@pytest.mark.parametrize(
    "text", ["DROP SCHEMA phiproxy", "SET search_path TO phiproxy, public", "GRANT USAGE ON SCHEMA phiproxy TO bob"]
)
def test_the_registry_is_not_for_clients(text: str) -> None:
    assert ask(text) == "42501"


USABLE = Effects(path_unknown=True, catalog_changed=True, schemas=True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SET search_path TO a", Effects(path_unknown=True, path=("a",))),
        ("SET search_path TO DEFAULT", Effects(path_unknown=True)),
        ("BEGIN", Effects()),
        ("SET LOCAL ROLE bob", Effects(path_unknown=True)),
        ("RESET ALL", Effects(path_unknown=True, styles_changed=True, encoding=True)),
        ("SET NAMES 'latin1'", Effects(encoding=True)),
        ('SET LOCAL "Client_Encoding" = latin1', Effects(encoding=True)),
        ('SET "SEARCH_PATH" = a', Effects(path_unknown=True, path=("a",))),
        ("SET bytea_output = escape", Effects(path_unknown=True, styles_changed=True)),
        ("SET LOCAL TIME ZONE 'UTC'", Effects(styles_changed=True)),
        ("DISCARD TEMP", Effects(path_unknown=True, styles_changed=True)),
        ("SELECT set_config($1, 'x', true)", Effects(path_unknown=True, styles_changed=True, encoding=True)),
        ("SELECT set_config('Client_Encoding', 'x', true)", Effects(encoding=True)),
        ("SELECT set_config('app.tenant', 'x', true)", Effects()),
        ("SELECT set_config('DateStyle', 'x', true)", Effects(styles_changed=True)),
        ("SET statement_timeout = 5", Effects()),
        ("DISCARD ALL", Effects(path_unknown=True, styles_changed=True, encoding=True, deallocates_all=True, closes_all=True)),
        ("ROLLBACK", Effects(transaction=True)),
        ("PREPARE s AS SELECT 1", Effects(prepares="s")),
        ("DEALLOCATE s", Effects(deallocates="s")),
        ("DEALLOCATE ALL", Effects(deallocates_all=True)),
        ("EXECUTE s(1)", Effects(executes="s")),
        ("EXPLAIN EXECUTE s", Effects(executes="s")),
        ("EXPLAIN ANALYZE EXECUTE s(1)", Effects(executes="s")),
        ("FETCH 5 FROM c", Effects(fetches="c")),
        ("CLOSE c", Effects(closes="c")),
        ("CLOSE ALL", Effects(closes_all=True)),
        ("SELECT set_config('search_path', 'x', true)", Effects(path_unknown=True)),
        ("CREATE ROLE nurse LOGIN PASSWORD 'x'", Effects(catalog_changed=True)),
        ("CREATE ROLE nurse IN ROLE staff", USABLE),
        ("CREATE GROUP staff USER app", USABLE),
        ("CREATE ROLE staff ADMIN app", USABLE),
        ("DROP ROLE nurse", USABLE),
        ("ALTER ROLE nurse NOINHERIT", USABLE),
        ("ALTER ROLE nurse RENAME TO archive", USABLE),
        ("REVOKE USAGE ON SCHEMA archive FROM app", USABLE),
        ("SELECT 1", Effects()),
        ("DROP TYPE mood", Effects(catalog_changed=True)),
        ("DROP TYPE mood CASCADE", Effects(catalog_changed=True, cascades=True)),
        ("DROP TABLE log CASCADE", Effects(catalog_changed=True, cascades=True)),
    ],
)
def test_what_a_statement_changes_in_the_session_is_noted(text: str, wanted: Effects) -> None:
    (statement,) = parse(text.encode())
    assert effects(statement.kind, statement.body, list(messages(statement.body))) == wanted


def test_a_function_or_table_that_changes_the_session() -> None:
    wanted = Effects(path_unknown=True, styles_changed=True, encoding=True, code=True)
    for text in (b"SELECT set_tenant('a')", b"INSERT INTO tenanted VALUES (1)", b"SELECT public.set_tenant('a')"):
        (statement,) = parse(text)
        walked = list(messages(statement.body))
        assert effects(statement.kind, statement.body, walked, frozenset({"set_tenant", "tenanted"})) == wanted


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (b"ALTER FUNCTION set_tenant(text) RENAME TO renamed", "renamed"),
        (b"CREATE AGGREGATE total(text) (SFUNC = set_tenant, STYPE = text)", "total"),
    ],
)
def test_what_is_made_of_code_that_changes_the_session_does_so_too(text: bytes, made: str) -> None:
    (statement,) = parse(text)
    done = effects(statement.kind, statement.body, list(messages(statement.body)), frozenset({"set_tenant"}))
    assert (done.code, made in done.created) == (True, True)


@pytest.mark.parametrize(("text", "code"), [(b"DROP FUNCTION set_tenant(text)", False), (b"DROP EXTENSION set_tenant", True)])
def test_what_is_dropped_by_its_name_changes_no_other_code(text: bytes, code: bool) -> None:
    (statement,) = parse(text)
    assert effects(statement.kind, statement.body, list(messages(statement.body)), frozenset({"set_tenant"})).code is code


def test_a_table_made_of_a_prepared_statement_executes_it() -> None:
    (statement,) = parse(b"CREATE TABLE t AS EXECUTE s(1)")
    assert effects(statement.kind, statement.body, list(messages(statement.body))).executes == "s"


def test_what_is_made_is_remembered_by_name() -> None:
    (statement,) = parse(b"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert effects(statement.kind, statement.body, list(messages(statement.body))).created == ("f",)
    (statement,) = parse(b"CREATE TABLE t (notes text)")
    assert "t" in effects(statement.kind, statement.body, list(messages(statement.body))).created


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("ROLLBACK", True),
        ("abort work", True),
        ("COMMIT AND CHAIN", True),
        ("END", True),
        ("ROLLBACK TO a", True),
        ("PREPARE TRANSACTION 'x'", True),
        ("COMMIT PREPARED 'x'", False),
        ("ROLLBACK PREPARED 'x'", False),
        ("BEGIN", False),
        ("SAVEPOINT a", False),
        ("RELEASE a", False),
        ("SELECT 1", False),
    ],
)
def test_what_leaves_an_aborted_transaction(text: str, leaves: bool) -> None:
    (statement,) = parse(text.encode())
    assert leaves_aborted(statement) is leaves
