"""The tables hold only what the stored format has a place for, and belong to their owner alone."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.keys.registry_schema import FOREIGN_PRIVILEGES, TABLES, create_schema, create_tables
from tests.keys.fakes import Site

ROOT = "INSERT INTO phiproxy.root_key (scope, tenant, purpose, generation, state, format) VALUES "
ODD = 'odd "schema"; DROP TABLE patients'


@pytest.fixture
def made(site: Site) -> Site:
    with psycopg.connect(site.dsn, autocommit=True) as conn:
        conn.execute(create_schema("phiproxy"))
        conn.execute(create_tables("phiproxy"))
    site.run("INSERT INTO phiproxy.identity VALUES (1, 'd:mrn', 'd:mrn', 'text')")
    site.run(ROOT + "('d:mrn', '', 'data', 1, 'active', 2)")
    return site


def test_any_schema_name_is_quoted(site: Site) -> None:
    with psycopg.connect(site.dsn, autocommit=True) as conn:
        conn.execute(create_schema(ODD))
        conn.execute(create_tables(ODD))
        rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (ODD,)).fetchall()
        conn.execute("SELECT FROM patients")
    assert {name for (name,) in rows} == set(TABLES)


def test_public_has_no_privilege(made: Site) -> None:
    with psycopg.connect(made.dsn) as conn:
        assert conn.execute(FOREIGN_PRIVILEGES, {"schema": "phiproxy"}).fetchall() == []
    made.run("GRANT SELECT ON phiproxy.data_key TO PUBLIC")
    with psycopg.connect(made.dsn) as conn:
        assert conn.execute(FOREIGN_PRIVILEGES, {"schema": "phiproxy"}).fetchall() == [("data_key", "PUBLIC")]


KEY = "INSERT INTO phiproxy.data_key (id, root_id, generation, wrapped, state, max_uses, mac, used, format) VALUES "


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO phiproxy.identity VALUES (0, 'd:x', 'd:x', 'text')",
        "INSERT INTO phiproxy.identity VALUES (65536, 'd:x', 'd:x', 'text')",
        "INSERT INTO phiproxy.identity VALUES (2, 'x', 'd:x', 'text')",
        "INSERT INTO phiproxy.identity VALUES (2, 'd:x', 'x', 'text')",
        "INSERT INTO phiproxy.slot VALUES (1, 255, '@', 1, NULL, 1, 'active')",
        "INSERT INTO phiproxy.slot VALUES (1, 0, '@', 0, NULL, 1, 'active')",
        "INSERT INTO phiproxy.slot VALUES (1, 0, '@', 1, NULL, 0, 'active')",
        "INSERT INTO phiproxy.slot VALUES (1, 0, '@', 1, NULL, 256, 'active')",
        "INSERT INTO phiproxy.slot VALUES (1, 0, '@', 1, NULL, 1, 'pending')",
        ROOT + "('d', '', 'kek', 1, 'active', 2)",
        KEY + "(0, 1, 1, decode(repeat('00', 40), 'hex'), 'active', 9, decode(repeat('00', 32), 'hex'), 0, 2)",
        KEY + "(4294967296, 1, 1, decode(repeat('00', 40), 'hex'), 'active', 9, decode(repeat('00', 32), 'hex'), 0, 2)",
        KEY + "(1, 1, 1, decode(repeat('00', 32), 'hex'), 'active', 9, decode(repeat('00', 32), 'hex'), 0, 2)",
        KEY + "(1, 1, 1, decode(repeat('00', 40), 'hex'), 'active', 9, decode(repeat('00', 31), 'hex'), 0, 2)",
        KEY + "(1, 1, 1, decode(repeat('00', 40), 'hex'), 'active', 9, decode(repeat('00', 32), 'hex'), 10, 2)",
        "INSERT INTO phiproxy.meta (format, deployment) VALUES (1, '')",
    ],
)
def test_what_has_no_place_in_the_format_is_refused(made: Site, statement: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        made.run(statement)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            ROOT + "('d:mrn', '', 'data', 2, 'pending', 2)",
            "UPDATE phiproxy.root_key SET state = 'active'",
        ),
        (
            KEY + "(1, 1, 1, decode(repeat('00', 40), 'hex'), 'active', 9, decode(repeat('00', 32), 'hex'), 0, 2)",
            KEY + "(2, 1, 2, decode(repeat('00', 40), 'hex'), 'active', 9, decode(repeat('00', 32), 'hex'), 0, 2)",
        ),
        (
            "INSERT INTO phiproxy.slot VALUES (1, 0, '@', 1, NULL, 1, 'active')",
            "INSERT INTO phiproxy.slot VALUES (1, 1, '@', 1, NULL, 2, 'active')",
        ),
        (
            "INSERT INTO phiproxy.slot VALUES (1, 0, '@', 1, NULL, 1, 'active')",
            "INSERT INTO phiproxy.slot VALUES (1, 1, '@', 1, NULL, 1, 'building')",
        ),
        (
            "INSERT INTO phiproxy.meta (format, deployment) VALUES (1, 'a')",
            "INSERT INTO phiproxy.meta (format, deployment) VALUES (1, 'b')",
        ),
    ],
)
def test_there_is_one_of_each(made: Site, first: str, second: str) -> None:
    made.run(first)
    with pytest.raises(psycopg.errors.UniqueViolation):
        made.run(second)
