"""Views over protected tables: their columns from the stored query, or a refusal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from phiproxy.errors import CatalogNeeded, PhiproxyError
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import Catalog
from tests.clinic_model import CATALOG, PROTECTION, relation
from tests.sql.ask import PLANNER, VIEW, tag


def planner(definition: str, *columns: str, kind: str = "v", booleans: Sequence[str] = ()) -> Planner:
    view = relation(200, "public", "v", *columns, kind=kind)
    typed = tuple(dataclasses.replace(c, type_oid=16) if c.name in booleans else c for c in view.columns)
    catalog: Catalog = dataclasses.replace(
        CATALOG,
        relations=(*CATALOG.relations, dataclasses.replace(view, columns=typed)),
        reaching={**CATALOG.reaching, "v": "view over public.patients"},
        views={200: definition},
    )
    return Planner(PROTECTION, catalog, PLANNER.ciphers)


def ask(sql: Planner, statement: str) -> str:
    try:
        return sql.statement(statement.encode(), (), VIEW).sql.decode()
    except PhiproxyError as refused:
        return refused.sqlstate


def test_columns_are_those_of_the_tables() -> None:
    own_planner = planner("SELECT p.id, p.ssn AS s FROM public.patients p WHERE p.city = 'x'::text;", "number", "social")
    assert ask(own_planner, "SELECT number FROM v WHERE social = $1") == f'SELECT number FROM "public".v WHERE {tag("social")} = $1'
    plan = own_planner.statement(b"SELECT * FROM public.v AS w", (), VIEW)
    assert plan.columns is not None
    reveal = plan.columns.reveals[1]
    assert reveal is not None
    assert (reveal.column.name, reveal.origin) == ("ssn", (200, 2))


def test_tags_of_a_stored_query_are_left() -> None:
    joined = (
        "SELECT p.ssn FROM public.patients p JOIN public.visits v"
        " ON pg_catalog.substring(p.mrn, 13, 16) = pg_catalog.substring(v.mrn, 13, 16)"
    )
    assert ask(planner(joined, "ssn", kind="m"), "SELECT ssn FROM v") == 'SELECT ssn FROM "public".v'


def test_what_must_be_read_first_says_nothing_of_a_view() -> None:
    own_planner = planner("SELECT p.ssn FROM public.patients p JOIN public.notes n ON n.id = p.id", "ssn")
    read = frozenset({"patients", "v"})
    own_planner = Planner(PROTECTION, dataclasses.replace(own_planner.catalog, names=read), PLANNER.ciphers)
    for _ in range(2):
        with pytest.raises(CatalogNeeded) as needed:
            own_planner.statement(b"SELECT ssn FROM public.v", (), VIEW)
        assert needed.value.names == {"notes"}


def test_a_view_of_itself_is_refused() -> None:
    assert ask(planner("SELECT v.ssn FROM public.v v", "ssn"), "SELECT ssn FROM v") == "0A000"


@pytest.mark.parametrize(
    "definition",
    [
        '(SELECT (array_agg(p.ssn))[1] AS c FROM public.patients p GROUP BY ("substring"(p.ssn, 13, 16)))',
        'SELECT any_value(p.ssn) AS c FROM public.patients p GROUP BY ("substring"(p.ssn, 13, 16))',
        'SELECT CASE WHEN (GROUPING("substring"(p.ssn, 13, 16)) = 0) THEN (array_agg(p.ssn))[1] ELSE NULL::bytea END AS c'
        ' FROM public.patients p GROUP BY ROLLUP(("substring"(p.ssn, 13, 16)))',
        "SELECT CASE WHEN (p.id = 1) THEN p.ssn ELSE NULL::bytea END AS c FROM public.patients p",
        'SELECT DISTINCT ON (("substring"(p.ssn, 13, 16))) p.ssn AS c FROM public.patients p',
        "SELECT p.ssn AS c FROM public.patients p WHERE (EXISTS ( SELECT 1 FROM public.log))",
        "SELECT p.ssn AS c FROM public.patients p UNION ALL SELECT NULL::bytea AS c",
        "SELECT COALESCE(p.ssn, q.ssn) AS c FROM (public.patients p CROSS JOIN public.patients q)",
        "WITH s AS (SELECT p.ssn FROM public.patients p) SELECT s.ssn FROM s",
    ],
)
def test_what_the_proxy_itself_lets_be_stored_is_read(definition: str) -> None:
    planned = planner(definition, "c").statement(b"SELECT c FROM v", (), VIEW)
    assert planned.columns is not None
    assert [r and (r.column.name, r.type.name) for r in planned.columns.reveals] == [("ssn", "text")]


@pytest.mark.parametrize(("kind", "planned"), [("v", "varchar(12)"), ("m", None)])
def test_what_the_planner_leaves_of_a_column_is_told_of_a_view(kind: str, planned: str | None) -> None:
    definition = "SELECT COALESCE(patients.mrn, NULL::bytea) AS c FROM public.patients"
    plan = planner(definition, "c", kind=kind).statement(b"SELECT c FROM v", (), VIEW)
    assert plan.columns is not None
    (reveal,) = plan.columns.reveals
    assert reveal is not None
    assert (reveal.type.name, reveal.planned and reveal.planned.name) == ("varchar", planned)


@pytest.mark.parametrize(
    "definition",
    [
        "SELECT ssn FROM public.patients WHERE ssn = 'x'",
        "SELECT (array_agg(p.ssn ORDER BY p.ssn))[1] AS c FROM public.patients p",
        "SELECT (array_agg(p.ssn))[1:2] AS c FROM public.patients p",
        "SELECT any_value(p.ssn, 1) AS c FROM public.patients p",
        "SELECT max(p.ssn) AS c FROM public.patients p",
        "SELECT CASE WHEN (p.id = 1) THEN p.ssn ELSE p.city END AS c FROM public.patients p",
        "SELECT COALESCE(p.ssn, 'x'::bytea) AS c FROM public.patients p",
        "SELECT p.ssn AS c FROM public.patients p UNION SELECT NULL::bytea AS c",
        "SELECT p.ssn AS c FROM public.patients p UNION ALL SELECT 'x'::bytea AS c",
        "SELECT ssn::text FROM public.patients",
        "SELECT DISTINCT ssn FROM public.patients",
        "SELECT upper(ssn) FROM public.patients",
        "SELECT p.ssn FROM public.patients p JOIN public.patients q ON p.ssn = q.ssn",
        "SELECT ssn, id FROM public.patients",
        "SELECT s.c FROM (VALUES ('x')) s (c), public.patients p WHERE p.ssn = s.c",
        "SELECT ssn FROM public.v",
        "nonsense",
        "",
    ],
)
def test_what_would_have_to_be_rewritten_stays_refused(definition: str) -> None:
    assert ask(planner(definition, "c"), "SELECT * FROM v") == "0A000"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE v SET c = upper(c)",
        "INSERT INTO v (c) VALUES (now()::text)",
        "INSERT INTO v (c) VALUES ('x') ON CONFLICT ON CONSTRAINT k DO NOTHING",
        "SELECT v FROM v",
        "SELECT upper(c) FROM v",
    ],
)
def test_a_view_takes_no_more_than_its_table_does(statement: str) -> None:
    assert ask(planner("SELECT ssn FROM public.patients", "c"), statement) == "0A000"


def test_a_view_is_copied_by_a_query_only() -> None:
    assert ask(planner("SELECT ssn FROM public.patients", "c"), "COPY v TO STDOUT") == "42809"


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("INSERT INTO v VALUES ($1)", 'INSERT INTO "public".v VALUES ($1)'),
        ("UPDATE v SET c = $1 WHERE c = $1", f'UPDATE "public".v SET c = $1 WHERE {tag("c")} = $2'),
        ("DELETE FROM v AS w WHERE w.c = 'x'", f'DELETE FROM "public".v AS w WHERE {tag("w.c")} = $1'),
    ],
)
def test_what_is_written_to_a_view_is_sealed(client: str, server: str) -> None:
    assert ask(planner("SELECT ssn FROM public.patients", "c"), client) == server


def test_rules_and_triggers_of_a_view_are_not_followed() -> None:
    own_planner = planner("SELECT ssn FROM public.patients", "c")
    relations = tuple(dataclasses.replace(r, diverted=r.name == "v") for r in own_planner.catalog.relations)
    diverted = Planner(PROTECTION, dataclasses.replace(own_planner.catalog, relations=relations), PLANNER.ciphers)
    assert ask(diverted, "DELETE FROM v") == "0A000"
    assert ask(diverted, "SELECT c FROM v") == 'SELECT c FROM "public".v'
