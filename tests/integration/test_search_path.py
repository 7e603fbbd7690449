"""The search path as the session has it: set, set locally, taken back; what was analysed is what runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from tests.fixtures.live import Twins, extended_site, watched_twins
from tests.harness import results
from tests.harness.differential import Protocol
from tests.harness.server import PostgresServer

READ = "SELECT * FROM patients ORDER BY id"


@pytest.fixture(scope="module")
def twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """The clinic with an unprotected table of the same name in schema archive."""
    with extended_site(postgres_server, tmp_path_factory.mktemp("path")) as site, watched_twins(site) as found:
        found.both.run("INSERT INTO archive.patients (id) VALUES (77)", protocol="simple")
        yield found


SCRIPTS = [
    ["SET search_path TO archive, public", READ, "RESET search_path", READ],
    ["BEGIN", "SET LOCAL search_path TO archive", READ, "COMMIT", READ],
    ["BEGIN", "SET search_path TO archive", READ, "ROLLBACK", READ],
    ["BEGIN", "SAVEPOINT a", "SET search_path = archive", READ, "ROLLBACK TO a", READ, "COMMIT", READ],
    ["SET search_path TO 'archive'", READ, "SELECT set_config('search_path', 'public', false)", READ, "DISCARD ALL", READ],
    ["SET search_path TO nowhere, public", READ, "SET search_path TO nowhere", READ, "SET search_path TO DEFAULT", READ],
    ['SET search_path TO "$user", archive', READ, "RESET ALL", READ],
    ["CREATE TEMP TABLE scratch (notes text)", READ, "DROP TABLE scratch", READ],
    ["PREPARE q AS SELECT count(*) FROM patients", "EXECUTE q", "DEALLOCATE q"],
]
STRINGS = [
    f"SET search_path TO archive; {READ}; SET search_path TO public; {READ}",
    f"BEGIN; SET LOCAL search_path TO archive; {READ}; END",
    f"{READ}; SET search_path TO archive, pg_catalog; {READ}; RESET search_path",
]


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_as_it_is_set(twins: Twins, protocol: Protocol) -> None:
    for script in SCRIPTS:
        for text in script:
            twins.both.run(text, protocol=protocol)


TENANT = """
CREATE FUNCTION tenant(t text) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE format('SET search_path = %I', t); RETURN 1; END $$
"""
FUNCTIONS = [
    TENANT,
    "SELECT tenant('archive')",
    READ,
    "SELECT tenant('public')",
    READ,
    "CREATE FUNCTION by_tenant(t text) RETURNS int LANGUAGE sql AS $$ SELECT tenant(t) $$",
    "SELECT by_tenant('archive')",
    READ,
    "RESET search_path",
    "PREPARE q AS SELECT set_config('search_path', 'archive', false)",
    READ,
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE q",
    READ,
    "DEALLOCATE q",
    "RESET search_path",
    "CREATE FUNCTION goes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET LOCAL search_path TO archive; RETURN 1; END $$",
    "BEGIN",  # the catalogue of a transaction does not tell what code made before it does
    "SELECT goes()",
    READ,
    "COMMIT",
    READ,
    "ALTER FUNCTION tenant(text) RENAME TO moves",
    "SELECT moves('archive')",
    READ,
    "RESET search_path",
    "CREATE SCHEMA other",
    READ,
    "DROP SCHEMA other",
    READ,
    # What it runs is given, or put together.
    "CREATE FUNCTION runs(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE t; RETURN 1; END $$",
    READ,
    "SELECT runs('SET ' || 'searc' || 'h_path TO archive')",
    READ,
    "RESET search_path",
    "BEGIN",
    "CREATE FUNCTION goes_so() RETURNS int LANGUAGE plpgsql AS"
    " $$ BEGIN EXECUTE chr(83) || 'ET searc' || 'h_path TO archive'; RETURN 1; END $$",
    READ,
    "SELECT goes_so()",
    READ,
    "ROLLBACK",
    READ,
    "DROP FUNCTION moves, by_tenant, goes, runs",
]


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_as_functions_set_it(twins: Twins, protocol: Protocol) -> None:
    for text in FUNCTIONS:
        if text.startswith("EXPLAIN"):  # it tells how long it took
            for conn in (twins.both.plain, twins.both.proxied):
                assert results.simple(conn, text)[-1].sqlstate is None
            continue
        twins.both.run(text, protocol=protocol)


INSERT = "INSERT INTO jots VALUES ('archive')"
BACK = "SET search_path TO public"


def goes(body: str) -> str:
    """Return the statement that gives the trigger function a body."""
    return f"CREATE OR REPLACE FUNCTION jotted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$"


BY_DDL = [
    # A table is renamed whose trigger sets the path.
    "CREATE TABLE jots (t text)",
    goes("SET search_path TO archive"),
    "CREATE TRIGGER t BEFORE INSERT ON jots FOR EACH ROW EXECUTE FUNCTION jotted()",
    INSERT, READ, BACK,
    "ALTER TABLE jots RENAME TO jottings", "INSERT INTO jottings VALUES ('archive')", READ, BACK,
    "ALTER TABLE jottings RENAME TO jots",
    # The function is only by now one that does.
    goes("NULL"), INSERT, READ,
    goes("EXECUTE 'SET ' || 'search' || '_path TO archive'"), INSERT, READ, BACK,
    goes("NULL"), "BEGIN", goes("SET/**/search_path = archive"), INSERT, READ, "ROLLBACK", READ,
    goes("SET search_path TO archive"),
    # It is fired by what is deleted of another table, or was put off.
    "DELETE FROM jots", "ALTER TABLE jots ADD UNIQUE (t)",
    "CREATE TABLE parts (t text REFERENCES jots (t) ON DELETE CASCADE)",
    "CREATE CONSTRAINT TRIGGER t AFTER DELETE ON parts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION jotted()",
    "DROP TRIGGER t ON jots", INSERT, "INSERT INTO parts VALUES ('archive')", READ,
    "DELETE FROM jots", READ, BACK,
    INSERT, "INSERT INTO parts VALUES ('archive')",
    "BEGIN", "DELETE FROM jots", READ, "SET CONSTRAINTS ALL IMMEDIATE", READ, "COMMIT", READ, BACK,
    # Types, operators, attributes, aggregates, defaults and pg_settings run it too.
    "CREATE FUNCTION carries(t text) RETURNS bool LANGUAGE plpgsql AS"
    " $$ BEGIN EXECUTE format('SET %I = %s', 'search_path', t); RETURN true; END $$",
    "CREATE DOMAIN place AS text CHECK (carries(VALUE))", "SELECT 'archive'::place", READ, BACK,
    "ALTER DOMAIN place RENAME TO spot", "SELECT 'archive'::spot", READ, BACK,
    "CREATE OPERATOR ==> (RIGHTARG = text, FUNCTION = carries)", "SELECT ==> 'archive'::text", READ, BACK,
    "CREATE FUNCTION gone(l jots) RETURNS bool LANGUAGE sql AS $$ SELECT carries(l.t) $$", INSERT,
    "SELECT jots.gone FROM jots", READ, BACK,
    "CREATE AGGREGATE sets(text, bool) (SFUNC = set_config, STYPE = text, INITCOND = 'search_path')",
    "SELECT sets('archive', false)", READ, BACK,
    "CREATE FUNCTION by_default(t text DEFAULT set_config('search_path', 'archive', false)) RETURNS text"
    " LANGUAGE sql AS $$ SELECT t $$", "SELECT by_default()", READ, BACK,
    "CREATE FUNCTION atomic() RETURNS void BEGIN ATOMIC UPDATE pg_settings SET setting = 'archive' WHERE name = 'search_path'; END",
    "SELECT atomic()", READ, BACK,
    "DROP TABLE parts, jots CASCADE", "DROP DOMAIN spot", "DROP OPERATOR ==> (NONE, text)",
    "DROP FUNCTION carries, jotted, by_default, atomic", "DROP AGGREGATE sets(text, bool)",
]  # fmt: skip


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_as_code_sets_it_that_ddl_has_made_or_moved(twins: Twins, protocol: Protocol) -> None:
    for text in BY_DDL:
        assert twins.both.run(text, protocol=protocol).sqlstate is None, text


# Between two reads another session changes what this one calls, or what its path is.
BY_OTHERS = [
    ["CREATE TABLE jots (t text)", goes("NULL"), "CREATE TRIGGER t BEFORE INSERT ON jots FOR EACH ROW EXECUTE FUNCTION jotted()"],
    [goes("SET search_path TO archive")],
    ["ALTER TABLE jots RENAME TO jottings", "ALTER TABLE jottings RENAME TO jots"],
    ["DROP TABLE jots", "CREATE TABLE jots (t text)", "DROP FUNCTION jotted"],
    ["REVOKE ALL ON SCHEMA {more} FROM {role} CASCADE"],
    ["DROP TABLE jots"],
]
MORE = """
CREATE SCHEMA {more}; CREATE TABLE {more}.patients AS SELECT 5 AS id, 'more' AS city; GRANT SELECT ON {more}.patients TO PUBLIC;
GRANT ALL ON SCHEMA {more} TO {role} WITH GRANT OPTION
"""
FIRED = """
CREATE FUNCTION public.fired() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN SET search_path TO archive; END $$;
CREATE EVENT TRIGGER fired ON ddl_command_end EXECUTE FUNCTION public.fired()
"""


def run_by_owner(twins: Twins, text: str) -> None:
    """Run something past the proxy, in both databases."""
    site = twins.clinic.site
    for database in (site.plain, site.sealed):
        with site.server.connect(database) as conn:
            conn.execute(text.format(more=f"more_{site.role}", role=site.role).encode())


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_as_others_change_it(twins: Twins, protocol: Protocol) -> None:
    site = twins.clinic.site
    more = f"more_{site.role}"
    run_by_owner(twins, MORE)
    with psycopg.connect(site.plain_dsn, autocommit=True) as plain, psycopg.connect(site.proxy_dsn, autocommit=True) as proxied:
        until(lambda: proxied.execute(f"SELECT city FROM {more}.patients".encode()).fetchone() == ("more",))
        twins.both.run(f"SET search_path TO {more}, public", protocol=protocol)
        for statements in BY_OTHERS:
            for text in statements:
                for conn in (plain, proxied):
                    conn.execute(text.format(more=more, role=site.role).encode())
            for text in (READ, INSERT, READ, f"SET search_path TO {more}, public"):
                twins.both.run(text, protocol=protocol)
    run_by_owner(twins, "DROP SCHEMA {more} CASCADE")
    twins.both.run(BACK, protocol=protocol)


def test_as_an_event_trigger_sets_it(twins: Twins) -> None:
    run_by_owner(twins, FIRED)
    with psycopg.connect(twins.clinic.site.proxy_dsn, autocommit=True, prepare_threshold=None) as other:

        def followed() -> bool:
            other.execute("GRANT SELECT ON patients TO PUBLIC")
            moved = other.execute("SELECT * FROM patients").description
            other.execute("SET search_path TO public")
            return moved is not None and [column.name for column in moved] == ["id", "ssn", "city"]

        until(followed)
    for protocol in ("simple", "extended"):
        for text in ("CREATE TABLE made (a int)", "COMMENT ON TABLE public.made IS 'x'", "DROP TABLE public.made"):
            for each in (text, READ, BACK):
                assert twins.both.run(each, protocol=protocol).sqlstate is None, each
    run_by_owner(twins, "DROP EVENT TRIGGER fired; DROP FUNCTION public.fired")


def test_what_would_set_it_unseen_is_refused(twins: Twins) -> None:
    for stored in (
        "CREATE VIEW sets AS SELECT set_config('search_path', 'archive', false)",
        "CREATE TABLE sets (a text DEFAULT set_config('Role', 'x', false))",
        "CREATE DOMAIN sets AS text CHECK (set_config(VALUE, 'x', false) IS NOT NULL)",
        "SELECT set_config('array_nulls', 'off', false)",
    ):
        twins.both.refused(stored, protocol="simple")
    twins.both.run("CREATE VIEW sets AS SELECT set_config('app.who', 'x', false) AS who", protocol="simple")
    twins.both.run("SELECT * FROM sets", protocol="simple")
    twins.both.run("DROP VIEW sets", protocol="simple")


def test_within_one_string(twins: Twins) -> None:
    for text in STRINGS:
        twins.both.run(text, protocol="simple", ordered=True)
    twins.both.refused(f"SET search_path TO archive; ROLLBACK; {READ}", protocol="simple")
    twins.both.refused(f"RESET search_path; {READ}", protocol="simple")
    made = goes("SET search_path TO archive").replace("trigger", "int").replace("NEW", "1").replace("jotted", "once")
    twins.both.refused(f"{made}; SELECT once(); {READ}", protocol="simple")
    twins.both.run(READ, protocol="simple")


def test_a_plan_is_made_again_under_another_path(twins: Twins) -> None:
    both = twins.both
    both.run("PREPARE p AS SELECT count(*) FROM patients", protocol="simple")
    both.run("EXECUTE p", protocol="simple")
    both.proxied.exec_(b"SET search_path TO archive")
    both.refused("EXECUTE p", protocol="simple")
    both.proxied.exec_(b"RESET search_path")
    both.run("EXECUTE p", protocol="simple")


def test_a_cursor_that_would_set_it_when_it_is_read(twins: Twins) -> None:
    twins.both.refused("DECLARE c CURSOR WITH HOLD FOR SELECT set_config('search_path', 'archive', false)", protocol="simple")
    twins.both.run("DECLARE c CURSOR WITH HOLD FOR SELECT set_config('app.user', 'x', false)", protocol="simple")
    twins.both.run("CLOSE c", protocol="simple")


OWN = """
CREATE SCHEMA {own} AUTHORIZATION {own}; SET ROLE {own};
CREATE TABLE {own}.patients AS SELECT 78 AS id, 'own'::text AS ssn
"""


def test_a_schema_of_the_path_that_comes_behind_the_proxy(twins: Twins) -> None:
    site, reads = twins.clinic.site, (READ, "SELECT id FROM patients WHERE ssn = 'own'")
    for text in ("RESET search_path", *reads):  # another test may have left it without the role's own schema
        twins.both.run(text, protocol="simple")
    for database in (site.plain, site.sealed):
        with site.server.connect(database) as conn:
            conn.execute(sql.SQL(OWN).format(own=sql.Identifier(site.role)))
    until(lambda: of_new_session(site.proxy_dsn) is None)
    for text in reads:
        twins.both.refused(text)  # what is in the way of a protected table is not protected
    with psycopg.connect(site.proxy_dsn, autocommit=True) as session:
        assert read(session) is None
        for database in (site.plain, site.sealed):
            with site.server.connect(database) as conn:
                conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(site.role)))
        until(lambda: read(session) is not None)
    for text in reads:
        twins.both.run(text, protocol="simple")


def until(reached: Callable[[], bool]) -> None:
    """Wait until the proxy has read its catalogue anew."""
    end = time.monotonic() + 240
    while not reached():
        assert time.monotonic() < end


def of_new_session(dsn: str) -> list[object] | None:
    """Return what a session reads that begins now."""
    with psycopg.connect(dsn) as conn:
        return read(conn)


def read(conn: psycopg.Connection[tuple[object, ...]]) -> list[object] | None:
    """Return the patients' ssn, or None where they are refused."""
    try:
        return [value for (value,) in conn.execute("SELECT ssn FROM patients")]
    except psycopg.errors.FeatureNotSupported:
        return None
