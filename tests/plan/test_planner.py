"""The planner's cache: bounded, keyed by what decides a plan, and without anybody's literals."""

from __future__ import annotations

import contextlib
import dataclasses

import pglast.parser
import pytest

from phiproxy.access.rules import Masked
from phiproxy.access.shows import read_show
from phiproxy.errors import StatementRefused, SyntaxRefused
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.without_engine import WITH_ENGINE
from phiproxy.sql.text import parse
from tests.clinic_model import CATALOG, INDEXED, PATH, PROTECTION
from tests.plan.rings import full_ciphers

VIEW = View(PATH, "clinic", catalog_fresh=True)


@pytest.fixture
def planner() -> Planner:
    return Planner(PROTECTION, CATALOG, full_ciphers())


def test_a_text_is_planned_once_for_each_path_and_declaration(planner: Planner) -> None:
    text = b"SELECT ssn FROM patients WHERE ssn = $1"
    one = planner.statement(text, (), VIEW)
    assert planner.statement(text, (), VIEW) is one
    assert planner.statement(text, (25,), VIEW) is not one
    other = planner.statement(text, (), dataclasses.replace(VIEW, path=("archive",)))
    assert other.sql != one.sql


def test_texts_with_protected_literals_are_not_kept(planner: Planner) -> None:
    text = b"SELECT ssn FROM patients WHERE ssn = 'x'"
    assert planner.statement(text, (), VIEW) is not planner.statement(text, (), VIEW)
    assert planner.script(text, VIEW) is not planner.script(text, VIEW)


def test_a_long_text_without_protected_literals_is_planned_once(planner: Planner) -> None:
    rows = b"($1, $2), " * 4000
    text = b"INSERT INTO patients (id, ssn) VALUES " + rows + b"(1, $2)"
    assert planner.statement(text, (), VIEW) is planner.statement(text, (), VIEW)
    text = b"INSERT INTO patients (id, ssn) VALUES " + rows + b"(1, 'x')"
    assert planner.statement(text, (), VIEW) is not planner.statement(text, (), VIEW)


def test_another_encoding_is_refused_only_where_it_matters(planner: Planner) -> None:
    latin = dataclasses.replace(VIEW, utf8=False)
    assert planner.statement(b"SELECT '\xe9'", (), latin).identity
    with pytest.raises(StatementRefused):
        planner.statement(b"SELECT ssn FROM patients", (), latin)
    planner.statement(b"SELECT ssn FROM patients WHERE ssn = $1", (), VIEW)
    with pytest.raises(StatementRefused):
        planner.statement(b"SELECT ssn FROM patients WHERE ssn = $1", (), latin)


def test_strings_of_statements(planner: Planner) -> None:
    script = planner.script(b"BEGIN; INSERT INTO patients (ssn) VALUES ('x'); SELECT ssn FROM patients; COMMIT", VIEW)
    assert script.parts is not None
    assert [p.touches for p in script.parts] == [False, True, True, False]
    with pytest.raises(SyntaxRefused):
        planner.statement(b"SELECT 1; SELECT ssn FROM patients", (), VIEW)
    with pytest.raises(StatementRefused):
        planner.script(b"SELECT 1; SELECT upper(ssn) FROM patients", VIEW)
    with pytest.raises(StatementRefused):
        planner.script(b"SET search_path TO x; SELECT ssn FROM patients", VIEW)
    assert planner.script(b"SET search_path TO x; SELECT ssn FROM public.patients", VIEW).parts


def test_a_text_of_many_statements_is_scanned_once(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[str] = []

    def scan(text: str) -> object:
        scanned.append(text)
        return pglast.parser.scan(text)

    monkeypatch.setattr(parse, "scan", scan)
    text = "UPDATE patients SET ssn = 'a'::text WHERE id = 1; " * 50 + "SELECT 1 /* a */"
    plan = planner.script(text.encode(), VIEW)
    assert scanned == [text, text], "once for its tokens, once for its comments"
    assert plan.render(planner.ciphers)[0].endswith(b"SELECT 1        ")


def test_what_does_not_parse_and_names_nothing_is_the_servers_to_answer(planner: Planner) -> None:
    assert planner.script(b"SET SET SET", VIEW).identity
    with pytest.raises(SyntaxRefused):
        planner.script(b"SELECT FROM WHERE patients", VIEW)


def test_what_the_server_calls_protected_is_known_by_number(planner: Planner) -> None:
    assert (100, 2) in planner.sealed
    assert (100, 1) not in planner.sealed


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        (b"ROLLBACK; SELECT upper(ssn) FROM patients", True),
        (b"SELECT 1; ROLLBACK", False),
        (b"", False),
        (b"ROLLBAC; x", False),
        (b"\n/* x */ END; SELECT 1", True),
        (b"Abort", True),
    ],
)
def test_a_text_that_begins_by_leaving_an_aborted_transaction(planner: Planner, text: bytes, leaves: bool) -> None:
    assert planner.leaves_aborted(text) is leaves


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        (b"SELECT 1; SELECT msg FROM log", True),
        (b"SELECT ssn FROM log", False),
        (b"SELECT $$patients$$", False),
        (b"SET search_path TO a", False),
        (b'SELECT U&"\\0073sn" FROM log', False),
    ],
)
def test_texts_that_need_no_plan(planner: Planner, text: bytes, passes: bool) -> None:
    assert planner.screen.passes(text) is passes
    if passes:
        assert planner.script(text, View(PATH, "clinic")).parts is None
        assert planner.statement(text, (), View(PATH, "clinic")).ordinary


@pytest.mark.parametrize(
    "text", [b"BEGIN", b"START TRANSACTION READ ONLY;", b"SAVEPOINT a", b"ROLLBACK TO a", b"COMMIT", b"SELECT msg FROM log"]
)
def test_a_parse_in_which_nothing_is_to_be_read_has_one_plan(planner: Planner, text: bytes) -> None:
    plan = planner.passing(text, ())
    assert plan is not None
    assert plan.ordinary
    assert plan.effects == planner.statement(text, (), View(PATH, "clinic")).effects
    assert planner.passing(text, ()) is plan


def test_what_begins_a_transaction_needs_no_catalogue() -> None:
    seen = PROTECTION.as_seen(frozenset({(("public", "patients", "ssn"), Masked(read_show("null")))}))
    names = frozenset(relation.name for relation in CATALOG.relations)
    unread = dataclasses.replace(CATALOG, names=names)  # statistics, which are refused to who sees masks, were not asked for
    assert "pg_stats" in {table.name for table in seen.tables} - names
    plan = Planner(seen, unread, full_ciphers()).passing(b"BEGIN", ())
    assert plan is not None
    assert plan.ordinary


@pytest.mark.parametrize("text", [b"BEGIN; COMMIT", b"SELECT ssn FROM patients", b"SET search_path TO a", b"COMMIT PREPARED 'x'"])
def test_a_parse_in_which_something_is_to_be_read_has_none(planner: Planner, text: bytes) -> None:
    assert planner.passing(text, ()) is None


def test_a_split_statement_is_refused_where_there_is_no_engine_and_says_so(planner: Planner) -> None:
    with pytest.raises(StatementRefused) as refused:
        planner.script(b"SELECT ssn FROM patients ORDER BY upper(ssn)", VIEW)
    assert (refused.value.hint or "").endswith(WITH_ENGINE)


@pytest.mark.parametrize(
    "statement",
    [
        "PREPARE x AS SELECT id FROM patients WHERE ssn LIKE 'secret%'",
        "PREPARE x (text) AS SELECT upper(ssn) FROM patients WHERE full_name > $1",
    ],
)
def test_what_is_split_is_not_prepared_on_the_server(statement: str) -> None:
    """Its constants would go there in clear."""
    planner = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts())
    plan = planner.statement(statement.encode(), (), VIEW)
    assert b"secret" not in plan.sql
    assert b"upper" not in plan.sql
    assert planner.script(statement.encode(), VIEW).pipeline == (statement.encode(),)


def test_a_pattern_that_comes_as_a_parameter_is_the_engine_s_unless_an_index_answers_its_beginning() -> None:
    text = b"SELECT id FROM patients WHERE full_name LIKE $1"
    with_engine = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts())
    assert isinstance(with_engine.statement(text, (), VIEW), SplitPlan)
    assert not isinstance(Planner(PROTECTION, CATALOG, full_ciphers()).statement(text, (), VIEW), SplitPlan)
    indexed = Planner(INDEXED, CATALOG, full_ciphers(), EngineFacts())
    assert not isinstance(indexed.statement(text, (), VIEW), SplitPlan)


def test_nothing_is_split_whose_source_would_be_refused(planner: Planner) -> None:
    with pytest.raises(StatementRefused) as refused:
        planner.script(b"SELECT upper(ssn) FROM patients, patient_names", VIEW)
    assert WITH_ENGINE not in (refused.value.hint or "")


def test_which_temporary_tables_matter_to_a_path(planner: Planner) -> None:
    assert planner.path(("pg_catalog", "public")) == (("pg_catalog", "public"), False, False)
    assert planner.path(("pg_temp_3", "public", "", "scratch")) == (("pg_temp_3", "public"), True, False)
    assert planner.path(("pg_temp_3", "public", "", "scratch", "patients")) == (("pg_temp_3", "public", "", "patients"), True, True)


@pytest.mark.parametrize("name", ["stays_id_seq", "stays_id_seq1", "stays_pkey"])
def test_a_name_that_postgresql_may_choose_can_hide_a_protected_table_at_any_time(name: str) -> None:
    tables = (*PROTECTION.tables, dataclasses.replace(PROTECTION.tables[0], name=name))
    planner = Planner(dataclasses.replace(PROTECTION, tables=tables), CATALOG, full_ciphers())
    assert planner.path(("pg_temp_3", "public", "", "scratch")) == (("pg_temp_3", "public"), True, True)
    assert planner.path(("pg_catalog", "public")) == (("pg_catalog", "public"), False, False)


@pytest.mark.parametrize(
    ("value", "type_oid", "refused"),
    [(b"today", 1082, True), (b"2024-01-01", 1082, False), (b"today", 25, False), (b"{now}", 1185, True)],
)
def test_a_parameter_that_means_a_moment_of_the_clock_is_refused(value: bytes, type_oid: int, *, refused: bool) -> None:
    planner = Planner(PROTECTION, CATALOG, full_ciphers(), EngineFacts())
    plan = planner.statement(b"SELECT id FROM patients WHERE upper(ssn) > $1", (), VIEW)
    assert isinstance(plan, SplitPlan)
    with pytest.raises(StatementRefused) if refused else contextlib.nullcontext():
        plan.check_moments([value], [0], [type_oid])
    plan.check_moments([value], [1], [type_oid])
