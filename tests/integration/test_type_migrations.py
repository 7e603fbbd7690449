"""Types that an application's own migrations make through the proxy, and tables with columns of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair

POLICY = """\
database: {database}
deployment: type-migrations
tables:
  public.people:
    columns:
      feeling: {type: public.mood, indexes: [feeling], accept_leakage: "the tests"}
      zip: {type: public.us_postal_code, indexes: [zip], accept_leakage: "the tests"}
      mail: {type: citext, indexes: [mail], distinct: 1000000}
      note: {type: note, pad: 32}
      codes: {type: "us_postal_code[]"}
"""
CREATED = (
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    r"CREATE DOMAIN us_postal_code AS text CHECK (VALUE ~ '^\d{5}$' OR VALUE ~ '^\d{5}-\d{4}$')",
    "CREATE DOMAIN note AS varchar(60) NOT NULL",
    "CREATE TABLE people (id int PRIMARY KEY, feeling mood DEFAULT 'ok', zip us_postal_code, mail citext UNIQUE, note public.note,"
    " codes us_postal_code[])",
)
DROPPED = ("DROP TABLE IF EXISTS people", "DROP TYPE IF EXISTS mood", "DROP DOMAIN IF EXISTS us_postal_code, note")


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names types and a table that nobody has made yet."""
    directory: Path = tmp_path_factory.mktemp("types")
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True) as found:
        for database in (found.plain, found.sealed):
            with found.server.connect(database) as conn:
                conn.execute(f"GRANT CREATE ON DATABASE {database} TO {found.role}")
        yield found


@contextmanager
def pair(site: Site, *, autocommit: bool = True) -> Iterator[Pair]:
    found = Pair(site, autocommit=autocommit)
    try:
        yield found
    finally:
        for conn in found.sides:
            conn.rollback()
            for statement in DROPPED:
                conn.execute(statement.encode())
            conn.commit()
            conn.close()
    found.oracle.assert_no_leak()


@pytest.mark.parametrize("autocommit", [True, False])
def test_types_and_tables_of_them(site: Site, autocommit: bool) -> None:
    with pair(site, autocommit=autocommit) as both:
        for statement in CREATED:
            both.run(statement)
        note = both.oracle.plant("name")
        insert = "INSERT INTO people (id, feeling, zip, mail, note, codes) VALUES (%s, %s, %s, %s, %s, %s) RETURNING *"
        both.run(insert, (1, "sad", "12345", "Zoe@Example.org", note, ["12345", None]))
        both.run("INSERT INTO people (id, note) VALUES (2, %s) RETURNING feeling, zip", (note,))
        both.run("SELECT id, feeling FROM people WHERE feeling = 'sad' AND mail = 'zoe@EXAMPLE.org' AND zip = '12345'")
        both.commit()
        site.cli("check")  # fails where it is not green
        for number, row in enumerate([("glad", None, None, "n"), (None, "1234", None, "n"), (None, None, "ZOE@example.ORG", "n"),
                                      (None, None, None, None), (None, None, None, "x" * 61)]):  # fmt: skip
            both.run(insert, (number + 10, *row, None))
            both.rollback()
        if autocommit:
            both.run("ALTER TYPE mood ADD VALUE 'happy' BEFORE 'sad'")
            both.run(insert, (3, "happy", "12345-6789", None, note, []))
            both.run("ALTER DOMAIN us_postal_code ADD CONSTRAINT five CHECK (length(VALUE) = 5) NOT VALID")
            both.run(insert, (4, "ok", "12345-6789", None, note, []))
            both.run("ALTER DOMAIN us_postal_code DROP CONSTRAINT five")
            both.run(insert, (5, "ok", "12345-6789", None, note, []))
        both.run("ALTER TABLE people ALTER COLUMN note DROP NOT NULL, ALTER COLUMN feeling TYPE mood")
        both.run("INSERT INTO people (id) VALUES (6)")
        both.rollback()
        both.run("SELECT * FROM people ORDER BY id")


def test_types_that_are_not_there(site: Site) -> None:
    with pair(site) as both:
        both.run("CREATE EXTENSION IF NOT EXISTS citext")
        both.refused(CREATED[-1], "42704")
        both.run(CREATED[1])
        both.run(CREATED[2])
        both.refused("CREATE TABLE people (id int, feeling text)")
        both.refused("CREATE TABLE people (id int, feeling mood, zip text)")


def test_what_cannot_be_protected_is_said(site: Site) -> None:
    with site.server.connect(site.sealed) as conn:
        conn.execute("CREATE DOMAIN us_postal_code AS text CHECK (VALUE ~ '(?i)x')")
        told = site.cli("check", check=False)
        conn.execute("DROP DOMAIN us_postal_code; CREATE DOMAIN us_postal_code AS text DEFAULT 'x'")
        told += site.cli("check", check=False)
        conn.execute("CREATE SCHEMA lab; CREATE TYPE lab.note AS ENUM ('a'); CREATE DOMAIN note AS text")
        conn.execute("DROP DOMAIN us_postal_code")
        told += site.cli("check", check=False)
        conn.execute("DROP SCHEMA lab CASCADE; DROP DOMAIN note")
    assert "domain public.us_postal_code has constraint us_postal_code_check, which is not understood" in told
    assert "type public.us_postal_code has a DEFAULT, and cannot be protected" in told
    assert "type note is in several schemas: write lab.note or public.note" in told
