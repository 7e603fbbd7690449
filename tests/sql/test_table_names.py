"""Relations as the server finds them: CTEs first, then the path; a foreign database is not one."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import NotPermitted, PathNeeded, StatementRefused, UndefinedTable
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.protection import Boundary
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.resolve.protected_values import CLEAR
from phiproxy.sql.resolve.scope import Source, SourceColumn
from phiproxy.sql.rewrite.common_changes import Qualify
from phiproxy.sql.rules import RULES
from phiproxy.sql.table_names import qualified_relation, relation_of, rename, target_relation
from phiproxy.sql.text.parse import Statement
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.sql.ask import VIEW, ask, refusal

NOTHING = Statement("SelectStmt", {}, 0, 0, (0, 0))


def analysis(path: tuple[str, ...] | None = PATH) -> Analysis:
    return Analysis(b"", Context(PROTECTION, CATALOG, path, "clinic"), NOTHING, RULES)


def test_a_relation_is_found_by_the_path_and_remembered_as_qualified() -> None:
    a = analysis(("archive", "public"))
    relation = relation_of(a, {"relname": "patients"})
    assert isinstance(relation, Relation)
    assert relation.schema == "archive"
    assert [qualified.schema for qualified in a.rewrites.every(Qualify)] == ["archive"]


def test_a_cte_hides_it_but_not_a_target() -> None:
    a = analysis()
    a.ctes.append({"patients": Source("patients", (), None)})
    assert isinstance(relation_of(a, {"relname": "patients"}), Source)
    assert isinstance(qualified_relation(a, {"relname": "patients"}), Relation)


def test_what_is_not_found() -> None:
    with pytest.raises(UndefinedTable):
        relation_of(analysis(), {"relname": "nope"})
    with pytest.raises(PathNeeded):
        relation_of(analysis(None), {"relname": "patients"})
    with pytest.raises(NotPermitted):
        relation_of(analysis(), {"relname": "root_key", "schemaname": "phiproxy"})
    with pytest.raises(StatementRefused):
        relation_of(analysis(), {"relname": "patients", "schemaname": "public", "catalogname": "other"})


def test_an_alias_renames_the_first_columns() -> None:
    source = Source("t", (SourceColumn("a", CLEAR), SourceColumn("b", CLEAR)))
    renamed = rename(source, {"colnames": [{"String": {"sval": "x"}}]})
    assert [c.name for c in renamed.columns] == ["x", "b"]
    assert rename(source, {}) is source


def test_only_the_session_says_which_temporary_tables_hide_a_protected_one() -> None:
    hidden = dataclasses.replace(CATALOG, relations=(*CATALOG.relations, Relation(900, "pg_temp_3", "patients", "r", ())))
    gone = Analysis(b"", Context(PROTECTION, hidden, ("pg_temp_3", *PATH), "clinic"), NOTHING, RULES)
    assert target_relation(gone, {"relname": "patients"}).schema == "public"
    with pytest.raises(UndefinedTable):
        relation_of(gone, {"relname": "patients", "schemaname": "pg_temp"})
    there = Context(PROTECTION, CATALOG, ("pg_temp_3", *PATH), "clinic", temporary=frozenset({"patients"}))
    a = Analysis(b"", there, NOTHING, RULES)
    for schema in ({}, {"schemaname": "pg_temp"}):
        assert target_relation(a, {"relname": "patients", **schema}).schema == "pg_temp"
    listed_last = dataclasses.replace(there, path=(*PATH, "pg_temp_3"))
    assert target_relation(Analysis(b"", listed_last, NOTHING, RULES), {"relname": "patients"}).schema == "public"
    relation = relation_of(a, {"relname": "patients", "schemaname": "public"})
    assert isinstance(relation, Relation)
    assert relation.schema == "public"


SSN, MRN = CatalogColumn("ssn", 1, 25, -1), CatalogColumn("mrn", 2, 17, -1)
MORE = (
    Relation(901, "mallory", "patients", "r", (SSN,)),
    Relation(902, "public", "moved", "r", (SSN, MRN), guards=(("mrn", 3),)),
)
# One table in the way, archive.patients too, and one that was renamed: nothing says that they are in clear.
OPEN = Planner(
    dataclasses.replace(PROTECTION, boundary=Boundary()),
    dataclasses.replace(CATALOG, relations=(*CATALOG.relations, *MORE)),
    Ciphers(Keyring(lambda: 0.0)),
)
MALLORY = dataclasses.replace(VIEW, path=("pg_catalog", "mallory", "public"))


@pytest.mark.parametrize("table", ["mallory.patients", "archive.patients", "moved", "MOVED", 'U&"m\\006fved"'])
@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM {}",
        "SELECT 1 FROM visits v JOIN {} ON true",
        "WITH w AS (DELETE FROM {}) SELECT 1",
        "INSERT INTO {} VALUES ('x')",
        "INSERT INTO log SELECT 'x' FROM {}",
        "UPDATE {} SET ssn = 'x'",
        "MERGE INTO {} t USING (SELECT 1) s ON true WHEN MATCHED THEN DO NOTHING",
        "TABLE {}",
        "EXPLAIN SELECT 1 FROM {}",
        "DECLARE c CURSOR FOR SELECT 1 FROM {}",
        "PREPARE q AS SELECT 1 FROM {}",
        "COPY {} FROM STDIN",
        "COPY {} (ssn) TO STDOUT",
        "COPY (SELECT 1 FROM {}) TO STDOUT",
        "CREATE TABLE t AS SELECT 1 FROM {}",
        "CREATE VIEW v AS SELECT ssn FROM {}",
        "CREATE INDEX ON {} (ssn)",
        "ALTER TABLE {} ADD COLUMN a text DEFAULT 'x'",
        "ALTER TABLE {} RENAME COLUMN ssn TO other",
        "CREATE TABLE child () INHERITS ({})",
        "CREATE TABLE t (LIKE {})",
        "CREATE TABLE IF NOT EXISTS {} (ssn text)",
        "CREATE TRIGGER t BEFORE INSERT ON {} EXECUTE FUNCTION f()",
    ],
)
def test_a_table_that_is_refused(text: str, table: str) -> None:
    assert ask(text.format(table), planner=OPEN) == "0A000"


@pytest.mark.parametrize("text", ["DROP TABLE {}", "TRUNCATE {}", "ANALYZE {}", "LOCK TABLE {}", "GRANT SELECT ON {} TO x"])
def test_what_carries_no_value_passes(text: str) -> None:
    for table in ("mallory.patients", "moved"):
        assert ask(text.format(table), planner=OPEN) == "="


def test_what_is_said_of_it() -> None:
    stranger = refusal("SELECT 1 FROM patients", MALLORY, OPEN)
    assert stranger.message == "mallory.patients is not protected, and has the name of a protected table and of its column ssn"
    assert stranger.hint is not None
    assert stranger.hint.endswith("`tables: {mallory.patients: {clear: true}}`")
    assert stranger.position == 15
    sealed = refusal("SELECT 1 FROM moved", VIEW, OPEN)
    assert sealed.message == "public.moved.mrn holds protected values, and the policy does not list it"
    assert sealed.hint is not None
    assert "`tables: {public.moved: {released: [mrn]}}`" in sealed.hint


def test_the_protected_table_itself_is_not_in_its_own_way() -> None:
    assert ask("SELECT id FROM public.patients", MALLORY, OPEN) == "SELECT id FROM public.patients"
    assert ask("SELECT ssn FROM other.moved", planner=OPEN) == "42P01"


def test_a_table_that_the_same_text_makes() -> None:
    """``CREATE TABLE`` alone carries no value, and passes; what comes behind it is refused."""
    definition = "CREATE TABLE eve.patients (id int, {} text)"
    assert ask(definition.format("ssn"), planner=OPEN) == definition.format("ssn")
    with pytest.raises(StatementRefused, match=r"eve\.patients is not protected"):
        OPEN.script(f"{definition.format('ssn')}; INSERT INTO eve.patients VALUES (1, 'x')".encode(), VIEW)
    OPEN.script(f"{definition.format('other')}; INSERT INTO eve.patients VALUES (1, 'x')".encode(), VIEW)


def test_a_table_made_from_a_query() -> None:
    text = "CREATE TABLE eve.patients{} AS SELECT id, 'x' AS {} FROM visits"
    for columns, name in (("", "ssn"), (" (ssn)", "a"), (" (a, ssn)", "b")):
        assert "would be in clear" in refusal(text.format(columns, name), VIEW, OPEN).message
    for columns, name in (("", "a"), (" (id, other)", "ssn")):
        assert ask(text.format(columns, name), planner=OPEN).startswith("CREATE TABLE eve.patients")
    assert ask("CREATE TABLE archive.patients AS SELECT 'x' AS ssn") == "=", "in clear, as its policy says"
