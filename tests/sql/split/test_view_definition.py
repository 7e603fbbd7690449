"""CREATE VIEW over expressions, and statements over such views, of the fixtures' clinic without a database."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.view_rests import ViewRest, read_rest
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Answered, Refused, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.split.view_definition import define_view
from phiproxy.sql.text.parse import parse
from phiproxy.sql.values.uses import Define
from tests.fixtures.model import VIEW, planner
from tests.sql.split.ask import shown

SEALED = bytes.fromhex("f5500101aa")
LABELS = "CREATE VIEW labels AS SELECT id, 'planted' || full_name AS label, city FROM patients WHERE city <> 'x'"
STORED = (
    "SELECT s.c1 AS id, CASE WHEN (current_setting('phiproxy.computes'::text) = ''::text) THEN NULL::text ELSE NULL::text END"
    " AS label, s.c3 AS city, '\\xf5500101aa'::bytea AS phi_view_0, s.c2 AS phi_view_1"
    " FROM ( SELECT patients.id, patients.full_name, patients.city FROM public.patients WHERE (patients.city <> 'x'::text))"
    " s(c1, c2, c3);"
)
COLUMNS = [("id", 23), ("label", 25), ("city", 25), ("phi_view_0", 17), ("phi_view_1", 17)]


def context(rest: ViewRest | None = None, stored: str = STORED, *, barrier: bool = False) -> Context:
    """Return what a statement is analysed against; with a view, if there is one."""
    there = planner(15)
    catalog = there.catalog
    if rest is not None:
        columns = tuple(CatalogColumn(name, number, oid, -1) for number, (name, oid) in enumerate(COLUMNS, start=1))
        labels = Relation(99001, "public", "labels", "v", columns, barrier=barrier)
        catalog = dataclasses.replace(
            catalog,
            relations=(*catalog.relations, labels),
            reaching={**catalog.reaching, "labels": "view over public.patients"},
            views={**catalog.views, 99001: stored},
            names=None,
        )
    rests = {SEALED: rest} if rest is not None else {}
    return Context(there.protection, catalog, VIEW.path, VIEW.database, rests=rests)


def defined(text: str) -> Answered | None:
    (statement,) = parse(text.encode())
    assert isinstance(analyse(statement, text.encode(), context()), Refused)
    return define_view(statement, text.encode(), context())


@cache
def rest_of(text: str) -> ViewRest:
    answer = defined(text)
    assert answer is not None
    (sealed,) = answer.occurrences
    assert sealed.literal is not None
    return read_rest(sealed.literal)


def read(text: str, rest: ViewRest | None = None, stored: str = STORED, *, barrier: bool = False) -> Split | None:
    """Return how a statement over the view is split, which the analysis refuses."""
    of = context(rest or rest_of(LABELS), stored, barrier=barrier)
    (statement,) = parse(text.encode())
    outcome = analyse(statement, text.encode(), of)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, text.encode(), of, outcome.error)


def test_the_server_has_the_source_and_no_constant_of_the_rest() -> None:
    answer = defined(LABELS)
    assert answer is not None
    (sealed,) = answer.occurrences
    assert isinstance(sealed.use, Define)
    assert sealed.use.column.path == "\0view"
    assert b"planted" not in sealed.lead + sealed.trail
    assert b"city <> 'x'" in sealed.trail
    assert sealed.lead.startswith(
        b'CREATE VIEW "public".labels ("id", "label", "city", "phi_view_0", "phi_view_1")  AS SELECT s.c1, '
    )
    assert (answer.definition, answer.cacheable, answer.effects.reaches) == (True, False, ("labels",))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW v AS SELECT upper(ssn) || random() AS u FROM patients",
        "CREATE VIEW v AS SELECT upper(ssn) || severity(city) || severity(ssn) AS u FROM patients",
        "CREATE VIEW v (phi_view_1) AS SELECT upper(ssn) FROM patients",
        "CREATE VIEW v AS SELECT upper(ssn) FROM patients WHERE ssn < $1",
    ],
)
def test_not_understood(statement: str) -> None:
    assert defined(statement) is None


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("CREATE VIEW v AS SELECT upper(ssn) AS u FROM patients WITH LOCAL CHECK OPTION", "write to the table itself"),
        ("CREATE TEMP VIEW v AS SELECT upper(ssn) AS u FROM patients", "in a schema"),
        ("CREATE VIEW v AS SELECT id FROM people WHERE born + 1 < '01/02/2000'", "2000-01-31"),
    ],
)
def test_refused_with_a_hint(statement: str, hint: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        defined(statement)
    assert hint in (refused.value.hint or "")


def test_conditions_on_plain_columns_are_the_source_s() -> None:
    split = read("SELECT label FROM labels WHERE id = 3 AND city = 'y' AND label > 'z' LIMIT 2")
    assert split is not None
    assert (
        split.source == b"""SELECT "labels"."id", "labels"."phi_view_1", "labels"."city" FROM labels WHERE id = 3 AND city = 'y'"""
    )
    assert shown(split.rest).startswith("SELECT label FROM (SELECT id, 'planted' || full_name AS label, city FROM (SELECT s.c1")


def test_what_is_sorted_and_limited_by_plain_columns() -> None:
    split = read("SELECT label FROM labels ORDER BY id LIMIT 2")
    assert split is not None
    assert split.source.endswith(b"FROM labels ORDER BY id LIMIT 2")


def test_a_join_is_one_source() -> None:
    split = read("SELECT l.label, v.diagnosis || '' FROM labels l JOIN visits v ON v.patient_id = l.id WHERE v.room = 'r'")
    assert split is not None
    assert b"FULL JOIN" not in split.source


def test_nothing_is_pushed_behind_other_rows_or_a_barrier() -> None:
    rest = rest_of(LABELS)
    for other, barrier in ((dataclasses.replace(rest, rows="other"), False), (dataclasses.replace(rest, rows="some"), True)):
        split = read("SELECT label FROM labels WHERE id = 3", other, barrier=barrier)
        assert split is not None
        assert split.source.endswith(b"FROM labels")
        assert ("OFFSET 0" in shown(split.rest)) == barrier


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT phi_view_1 FROM labels",
        "SELECT upper(x) FROM (SELECT phi_view_1 AS x FROM labels) q",
        "SELECT label FROM labels WHERE phi_view_1 IS NOT NULL",
        "SELECT label FROM labels l (a, b, c, d)",
        "SELECT labels FROM labels",
        "UPDATE labels SET city = 'x'",
    ],
)
def test_what_only_the_proxy_reads_is_nobody_s(statement: str) -> None:
    assert read(statement) is None


def test_behind_another_statement() -> None:
    before = "SELECT 'é'; "
    text = (before + LABELS + "; SELECT 2").encode()
    _, statement, _ = parse(text)
    answer = define_view(statement, text, context())
    alone = defined(LABELS)
    assert answer is not None
    assert alone is not None
    (sealed,), (other,) = answer.occurrences, alone.occurrences
    assert (sealed.lead, sealed.literal, sealed.trail) == (other.lead, other.literal, other.trail)
    assert text[sealed.start : sealed.end] == LABELS.encode()
