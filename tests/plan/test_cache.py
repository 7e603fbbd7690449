"""The planner's cache: bounded, keyed by what changes the meaning, and without anybody's literals."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import StatementRefused, SyntaxRefused
from phiproxy.plan.cache import Planner, View
from tests.clinic_model import CATALOG, PATH, PROTECTION
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
    assert planner.passes(text) is passes
    if passes:
        assert planner.script(text, View(PATH, "clinic")).parts is None
        assert planner.statement(text, (), View(PATH, "clinic")).ordinary
