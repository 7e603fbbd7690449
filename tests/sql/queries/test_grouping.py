"""GROUP BY, DISTINCT and DISTINCT ON; the fixture files have every shape."""

from __future__ import annotations

import dataclasses

from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import Catalog
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import PLANNER, VIEW, ask, columns, refusal, tag


def test_any_value_from_16() -> None:
    catalog: Catalog = dataclasses.replace(CATALOG, server_version=160000)
    planner = Planner(PROTECTION, catalog, PLANNER.ciphers)
    plan = planner.statement(b"SELECT ssn FROM public.patients GROUP BY ssn", (), VIEW)
    assert plan.sql.decode() == f'SELECT pg_catalog.any_value(ssn) AS "ssn" FROM public.patients GROUP BY {tag("ssn")}'


def test_the_representative_is_told_as_the_tables_column() -> None:
    plan = PLANNER.statement(b"SELECT ssn, ssn::varchar AS v FROM patients GROUP BY ssn", (), VIEW)
    assert plan.columns is not None
    first, second = plan.columns.reveals
    assert first is not None
    assert second is not None
    assert (first.origin, first.cast, second.cast) == ((100, 2), False, True)


def test_two_columns_of_a_subquery_are_grouped_each_for_itself() -> None:
    sql = ask("SELECT x.a, x.b FROM (SELECT ssn AS a, ssn AS b FROM public.patients) x GROUP BY x.a, x.b")
    assert sql.count("array_agg") == 2
    assert ask("SELECT x.a, x.b FROM (SELECT ssn AS a, ssn AS b FROM public.patients) x GROUP BY x.a") == "42803"


def test_distinct_names_what_a_star_gives() -> None:
    assert columns("SELECT DISTINCT * FROM visits") == [None, None, "mrn", "diagnosis", None]
    sql = ask("SELECT DISTINCT ON (s, 2) ssn AS s, mrn FROM public.patients")
    assert sql.startswith(f"SELECT DISTINCT ON ({tag('ssn')}, {tag('mrn')}) ")


def test_a_refusal_says_what_works() -> None:
    for statement in (
        "SELECT DISTINCT coalesce(ssn, 'x') FROM patients",
        "SELECT coalesce(ssn, 'x') AS s FROM patients GROUP BY s",
    ):
        assert "subquery" in (refusal(statement).hint or "")
    assert "notes" in (refusal("SELECT DISTINCT notes FROM patients").hint or "")
