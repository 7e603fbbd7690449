"""Functions that run SQL given as text, directly and through the proxy."""

from __future__ import annotations

import psycopg
import pytest

from tests.harness.clinic import Clinic
from tests.integration.test_conforming_strings import answer, both, sessions  # noqa: F401 - a fixture

CALLS = [
    "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', a) FROM public.other') ORDER BY word",
    "SELECT table_to_xml('public.other', true, false, '')",
    "SELECT table_to_xml('public.other'::regclass, false, true, 'x')",
    "SELECT query_to_xml('SELECT a FROM public.other WHERE a <> ''it''''s''', true, false, '')",
    "SELECT ts_rewrite('x & y'::tsquery, 'SELECT ''x''::tsquery, ''z''::tsquery')",
    "SELECT schema_to_xml('aside', true, false, '')",
]


def test_both_ways(sessions: list[psycopg.Connection[object]], clinic: Clinic) -> None:  # noqa: F811
    databases = (clinic.site.plain, clinic.site.sealed)
    for database in databases:
        with clinic.site.server.connect(database) as conn:
            conn.execute("CREATE SCHEMA aside CREATE TABLE few (a int)")
            conn.execute("INSERT INTO aside.few VALUES (1)")
            conn.execute("GRANT USAGE ON SCHEMA aside TO PUBLIC; GRANT SELECT ON aside.few TO PUBLIC")
    for session in sessions:
        session.execute("CREATE TABLE public.other (a text)")
        session.execute("INSERT INTO public.other VALUES ('word'), ('it''s')")
    try:
        for call in CALLS:
            answered = both(sessions, call)
            assert isinstance(answered, list) or answered == "0A000", call  # without libxml the server refuses
            if isinstance(answered, list):
                for _ in range(2):
                    assert sessions[1].execute(call.encode(), prepare=True).fetchall() == answered
        both(sessions, "BEGIN")
        both(sessions, "DECLARE c CURSOR FOR SELECT a FROM public.other")
        both(sessions, "SELECT cursor_to_xml('c', 1, true, false, '')")
        both(sessions, "ROLLBACK")
        proxied = sessions[1]
        for call in (
            "SELECT * FROM ts_stat('SELECT to_tsvector(ssn) FROM patients')",
            "SELECT table_to_xml('patients', true, false, '')",
            "SELECT schema_to_xml('public', true, false, '')",
        ):
            assert answer(proxied, call) == "0A000"
        proxied.execute("BEGIN")
        proxied.execute("DECLARE c CURSOR FOR SELECT ssn FROM patients")
        assert answer(proxied, "SELECT cursor_to_xml('c', 1, true, false, '')") == "0A000"
        proxied.execute("ROLLBACK")
    finally:
        for database in databases:
            with clinic.site.server.connect(database) as conn:
                conn.execute("DROP SCHEMA aside CASCADE; DROP TABLE public.other")
    clinic.assert_twins_equal()


def test_what_was_prepared_is_looked_at_again(clinic: Clinic) -> None:
    """Its names are those of the moment at which it runs."""
    clinic.seed(1)
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE public.other (a text)")
        try:
            conn.execute("PREPARE p AS SELECT * FROM ts_stat('SELECT to_tsvector(a) FROM public.other')")
            assert answer(conn, "EXECUTE p") == []
            conn.execute("DROP TABLE public.other")
            conn.execute("CREATE VIEW public.other AS SELECT ssn AS a FROM patients")
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute("EXECUTE p")
        finally:
            conn.execute("DROP VIEW IF EXISTS public.other")
