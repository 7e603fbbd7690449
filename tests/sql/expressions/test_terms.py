"""Terms that become tags: PostgreSQL's own operators must compare them; and COLLATE beside them, which then changes nothing."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.explanation import explain
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import ask, tag


@pytest.mark.parametrize(
    ("replaced", "client", "answer"),
    [
        ("=", "SELECT id FROM patients WHERE ssn = 'x'", "0A000"),
        ("<>", "SELECT id FROM patients WHERE ssn NOT IN ('x', 'y')", "0A000"),
        ("=", "SELECT CASE ssn WHEN 'x' THEN 1 END FROM patients", "0A000"),
        ("=", "SELECT ssn FROM patients WHERE city = 'x'", "rewritten"),
        ("count", "SELECT count(ssn) FROM patients", "0A000"),
        ("count", "SELECT pg_catalog.count(ssn) FROM patients", "rewritten"),
    ],
)
def test_an_operator_of_the_databases_own_is_not_asked_about_tags(replaced: str, client: str, answer: str) -> None:
    catalog = dataclasses.replace(CATALOG, replaced=frozenset({replaced}))
    asked = explain(Planner(PROTECTION, catalog, Ciphers(Keyring(lambda: 0.0))), client.encode(), "clinic")
    assert (asked.sqlstate or asked.answer) == answer
    assert bool(asked.hint) is (answer == "0A000")


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("""ssn COLLATE "C" = $1""", f"{tag('ssn')}  = $1"),
        ("""ssn = $1 COLLATE "C" AND id = 1""", f"{tag('ssn')} = $1  AND id = 1"),
        ("""ssn COLLATE "C" IS NULL""", "ssn  IS NULL"),
        ("""city COLLATE "POSIX" = 'x'""", """city COLLATE "POSIX" = 'x'"""),
    ],
)
def test_a_deterministic_collation_changes_nothing(condition: str, answer: str) -> None:
    assert ask(f"SELECT id FROM public.patients WHERE {condition}") == f"SELECT id FROM public.patients WHERE {answer}"


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("""ssn COLLATE "nosuch" = $1""", "42704"),
        ("""ssn COLLATE "C" = $1 COLLATE "POSIX\"""", "42P21"),
        ("""ssn COLLATE "C" < $1""", "0A000"),
    ],
)
def test_other_collations_are_refused(condition: str, code: str) -> None:
    assert ask(f"SELECT id FROM public.patients WHERE {condition}") == code


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("SELECT count(DISTINCT ssn) FROM public.patients", f"SELECT count(DISTINCT {tag('ssn')}) FROM public.patients"),
        (
            "SELECT count(*) OVER (PARTITION BY (ssn, city)) FROM public.patients",
            f"SELECT count(*) OVER (PARTITION BY ({tag('ssn')}, city)) FROM public.patients",
        ),
        (
            "SELECT count(*) OVER (PARTITION BY city) FROM public.patients",
            "SELECT count(*) OVER (PARTITION BY city) FROM public.patients",
        ),
        ("SELECT rank() OVER (ORDER BY ssn) FROM public.patients", "0A000"),
    ],
)
def test_partitions_and_distinct_values(client: str, server: str) -> None:
    assert ask(client) == (client if server == "=" else server)
