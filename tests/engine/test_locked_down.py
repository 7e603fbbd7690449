"""What the role that runs rests cannot do, also where it is the one who writes the statement."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from phiproxy.engine.access import Access
from phiproxy.engine.databases import connect
from phiproxy.engine.rest import Rest
from tests.engine.both import Both

DENIED = "42501"
FORBIDDEN = [
    "CREATE TABLE public.kept (x text)",
    "CREATE TABLE kept AS SELECT 'value' AS x",
    "CREATE SCHEMA mine",
    "CREATE TYPE public.mine AS ENUM ('x')",
    "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "DO 'BEGIN END'",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION hstore",
    "CREATE ROLE another",
    "CREATE DATABASE another",
    "ALTER ROLE phiproxy_rest SUPERUSER",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SET SESSION AUTHORIZATION phiproxy_engine",
    "SET ROLE phiproxy_engine",
    "SET log_statement = 'all'",
    "SET log_min_error_statement = 'error'",
    "SET log_min_messages = 'debug5'",
    "SET log_min_duration_statement = 0",
    "SET track_activities = on",
    "SET temp_file_limit = -1",
    "SET session_replication_role = replica",
    "SET allow_system_table_mods = on",
    "LOAD 'auto_explain'",
    "COPY (SELECT 'value') TO '/tmp/phiproxy-leak'",
    "COPY (SELECT 'value') TO PROGRAM 'cat'",
    "COPY pg_temp.t FROM '/etc/passwd'",
    "COPY pg_temp.t FROM PROGRAM 'id'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_stat_file('postgresql.conf')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'value')",
    "SELECT lo_put(1, 0, 'value')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/phiproxy-leak')",
    "SELECT pg_notify('channel', 'value')",
    "SELECT pg_logical_emit_message(false, 'x', 'value')",
    "SELECT query_to_xml('SELECT 1', true, true, '')",
    "SELECT ts_stat('SELECT to_tsvector(''x'')')",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')",
    "SELECT set_config('timezone', 'UTC', false)",
    "SELECT pg_sleep(0)",
    "SELECT random()",
    "SELECT gen_random_uuid()",
    "SELECT clock_timestamp()",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_export_snapshot()",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "SELECT set_limit(0.1)",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_largeobject",
    "CHECKPOINT",
]


@pytest.fixture
async def attacker(both: Both) -> AsyncIterator[Both]:
    """A session of the role's that writes, and has a temporary table."""
    for text in ("SET default_transaction_read_only = off", "CREATE TEMPORARY TABLE t (x text)"):
        await both.run(Rest((text.encode(),)), [])
    yield both
    for conn in both.engine.pool.idle:
        conn.close()


@pytest.mark.parametrize("text", FORBIDDEN)
async def test_is_not_permitted(attacker: Both, text: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        await attacker.run(Rest((text.encode(),)), [])
    assert refused.value.sqlstate == DENIED, refused.value


async def test_nothing_but_temporary_tables_is_written(both: Both) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await both.run(Rest((b"CREATE TEMPORARY TABLE t (x text)",)), [])


async def test_it_sees_no_statement_of_another(both: Both, attacker: Both) -> None:
    outcome = await attacker.run(Rest((b"SELECT query FROM pg_stat_activity WHERE query <> '' AND query NOT LIKE '<%'",)), [])
    assert outcome.rows == []


async def test_it_owns_nothing_and_has_no_other_database(both: Both, engine_access: Access) -> None:
    owned = b"SELECT count(*) FROM pg_class WHERE relowner = 'phiproxy_rest'::regrole AND relnamespace <> pg_my_temp_schema()"
    assert (await both.run(Rest((owned,)), [])).rows == [[b"0"]]
    text = b"SELECT datname FROM pg_database WHERE datallowconn AND has_database_privilege(oid, 'CONNECT')"
    names = [row[0] or b"" for row in (await both.run(Rest((text,)), [])).rows]
    assert names
    assert all(name.startswith(b"phiproxy_") for name in names)
    async with connect(engine_access) as conn:
        row = await (await conn.execute("SELECT * FROM pg_roles WHERE rolname = 'phiproxy_rest'")).fetchone()
        assert row is not None
        assert not any(value is True for value in row if value is not row[5])  # but for rolcanlogin


async def test_pure_functions_may_be_called(both: Both) -> None:
    text = "SELECT to_tsvector('english', 'rats') @@ 'rat'::tsquery, similarity('a', 'ab') > 0, row_to_json(p) FROM {} AS p (n)"
    split = await both.split("SELECT last_name FROM patients WHERE id = 1", text)
    assert split.rows == [[b"t", b"t", b'{"n":"Name1"}']]
