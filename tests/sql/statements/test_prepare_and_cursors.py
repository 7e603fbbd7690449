"""PREPARE, EXECUTE, DECLARE and FETCH: what the server's statement is, and what each name then means."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.statement_plan import StatementPlan
from tests.sql.ask import PLANNER, VIEW, ask, tag

S = tag("ssn")


@dataclasses.dataclass
class Fixed:
    """A session that knows one statement and one cursor."""

    prepared: StatementPlan | None = None
    cursor: Columns | None = None

    def statement(self, name: str) -> StatementPlan | None:
        return self.prepared if name == "s" else None

    def portal(self, name: str) -> Columns | None:
        return self.cursor if name == "c" else None


def plan(text: str, names: Fixed | None = None, oids: tuple[int, ...] = ()) -> StatementPlan:
    view = VIEW if names is None else dataclasses.replace(VIEW, names=names)
    return PLANNER.statement(text.encode(), oids, view)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (
            "PREPARE s AS SELECT ssn FROM patients WHERE ssn = $1",
            f'PREPARE s (bytea) AS SELECT ssn FROM "public".patients WHERE {S} = $1',
        ),
        (
            "PREPARE s ( text , numeric(4, 2) ) AS SELECT id FROM patients WHERE ssn = $1 AND id = $2",
            f'PREPARE s ( bytea, numeric(4, 2) ) AS SELECT id FROM "public".patients WHERE {S} = $1 AND id = $2',
        ),
        (
            "PREPARE s (text[]) AS SELECT id FROM patients WHERE ssn = ANY ($1)",
            f'PREPARE s (bytea[]) AS SELECT id FROM "public".patients WHERE {S} = ANY ($1)',
        ),
        (
            "/* x */ PREPARE s AS /* y */ SELECT id FROM patients WHERE id = $1 AND ssn = 'x'",
            f'        PREPARE s (unknown, bytea) AS         SELECT id FROM "public".patients WHERE id = $1 AND {S} = $2',
        ),
        ("PREPARE s AS SELECT ssn FROM public.patients", "PREPARE s AS SELECT ssn FROM public.patients"),
        ("PREPARE s (text) AS SELECT msg FROM log WHERE msg = $1", "="),
    ],
)
def test_a_prepared_statement_is_rewritten_with_its_types(text: str, server: str) -> None:
    assert ask(text) == server


def test_what_is_prepared_is_the_plan_of_a_parse() -> None:
    prepared = plan("PREPARE s (int, text) AS INSERT INTO patients (id, ssn, notes) VALUES ($1, $2, 'n')").prepared
    assert prepared is not None
    assert prepared[1] == (23, 25)
    assert prepared[0].same(plan("INSERT INTO patients (id, ssn, notes) VALUES ($1, $2, 'n')", oids=(23, 25)))


INSERT = plan("INSERT INTO patients (id, ssn, notes) VALUES ($1, $2, 'n')")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("EXECUTE s(1 + 1, 'x')", rb"EXECUTE s(1 + 1, '\x00'::bytea, '\x00'::bytea)"),
        ("EXECUTE s ( $$a$$ , NULL::text )", rb"EXECUTE s ( $$a$$ , NULL::bytea , '\x00'::bytea)"),
        ("EXECUTE s(1, varchar 'x') -- x", rb"EXECUTE s(1,  '\x00'::bytea, '\x00'::bytea)     "),
        ("EXECUTE s(1, 'x' || NULL)", rb"EXECUTE s(1, NULL::bytea, '\x00'::bytea)"),
        ("EXECUTE s(1, (trim(' x ') || ('y'))::varchar(3))", rb"EXECUTE s(1, '\x00'::bytea, '\x00'::bytea)"),
        ("EXECUTE s(1, coalesce(NULL, 'x'))", rb"EXECUTE s(1, '\x00'::bytea, '\x00'::bytea)"),
        ("EXECUTE s(1, - 2.50)", rb"EXECUTE s(1, '\x00'::bytea, '\x00'::bytea)"),
        ("EXECUTE s(1, true)", rb"EXECUTE s(1, '\x00'::bytea, '\x00'::bytea)"),
        ("EXECUTE s(1, 2)", rb"EXECUTE s(1, '\x00'::bytea, '\x00'::bytea)"),
        ("EXPLAIN ANALYZE EXECUTE s(1, 'x')", rb"EXPLAIN ANALYZE EXECUTE s(1, '\x00'::bytea, '\x00'::bytea)"),
    ],
)
def test_the_constants_of_execute_are_sealed(text: str, server: bytes) -> None:
    assert plan(text, Fixed(INSERT)).sql == server


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("EXECUTE s(1, reverse('x'))", "0A000"),
        ("EXECUTE s(1, 2 + 2)", "0A000"),
        ("EXECUTE s(1, now()::text)", "0A000"),
        ("EXECUTE s(1, (SELECT 'x'))", "0A000"),
        ("EXECUTE s", "42601"),
        ("EXECUTE t('x')", "26000"),
        ("CREATE TABLE t AS EXECUTE s(1, 'x')", "0A000"),
        ("EXPLAIN CREATE TABLE t AS EXECUTE s(1, 'x')", "0A000"),
    ],
)
def test_an_argument_that_the_server_would_compute_is_refused(text: str, sqlstate: str) -> None:
    with pytest.raises(PhiproxyError) as caught:
        plan(text, Fixed(INSERT))
    assert caught.value.sqlstate == sqlstate


def test_execute_of_what_is_not_known_or_not_protected() -> None:
    assert plan("EXECUTE t(1)", Fixed(INSERT)).identity
    assert plan("EXECUTE s('x')", Fixed(plan("SELECT $1"))).identity


def test_execute_reveals_what_its_statement_does() -> None:
    select = plan("SELECT id, ssn FROM patients")
    executed = plan("EXECUTE s", Fixed(select))
    assert executed.columns == select.columns
    assert executed.bound
    assert plan("EXPLAIN EXECUTE s", Fixed(select)).columns is None


def test_nothing_bound_is_remembered() -> None:
    assert plan("EXECUTE s", Fixed(plan("SELECT ssn FROM patients"))).touches
    assert not plan("EXECUTE s", Fixed(plan("SELECT 1"))).touches
    assert not plan("FETCH c", Fixed()).touches


def test_fetch_opens_the_columns_that_declare_has_noted() -> None:
    declared = plan("DECLARE c BINARY CURSOR WITH HOLD FOR SELECT id, ssn FROM patients")
    assert declared.columns is None
    assert declared.cursor is not None
    assert (declared.effects.declares, declared.effects.binary, declared.effects.holds) == ("c", True, True)
    names = Fixed(cursor=declared.cursor)
    assert plan("FETCH ALL FROM c", names).columns == declared.cursor
    assert plan("MOVE c", names).columns == Columns(())
    assert plan("FETCH d", names).columns is None
    assert plan("DECLARE c CURSOR FOR SELECT 1").cursor is None
