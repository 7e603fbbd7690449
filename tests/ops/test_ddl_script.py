"""The DDL of a policy: run on a real server, it makes what is needed, once; and it says what a human must do first."""

from typing import Any

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.ops.ddl_script import NOTHING, render_ddl
from phiproxy.ops.physical_tables import read_physical
from phiproxy.policy.bind import bind
from phiproxy.policy.model import Policy
from tests.policy.build import make_layout, make_policy

Connection = psycopg.AsyncConnection[Any]

POLICY = make_policy(
    {
        "public.patients": {
            "name": {"type": "text"},
            "ssn": {"type": "text", "indexes": ["ssn"]},
            "mrn": {"domain": "mrn"},
        }
    },
    domains={"mrn": {"type": "varchar(12)", "indexes": ["value"]}},
)
PATIENTS = "CREATE TABLE patients (id int PRIMARY KEY, name text NOT NULL, ssn text, mrn varchar(12))"
ENVELOPE = "'\\xf5500101000000000100{number:02x}{k:02x}'::bytea || decode(repeat('00', {rest}), 'hex')"


def envelope(number: int, k: int) -> str:
    """The shortest bytes that a guard takes."""
    return ENVELOPE.format(number=number, k=k, rest=16 * k + 44)


async def ddl(conn: Connection, policy: Policy = POLICY) -> str:
    tables = [(c.schema, c.table) for c in policy.columns()]
    catalog = await read_catalog(conn, tables)
    return render_ddl(policy, make_layout(policy), catalog, await read_physical(conn, tables))


async def refusal(conn: Connection, policy: Policy = POLICY) -> str:
    with pytest.raises(ConfigError) as caught:
        await ddl(conn, policy)
    return caught.value.message


async def indexes(conn: Connection) -> set[str]:
    cursor = await conn.execute("SELECT indexdef FROM pg_catalog.pg_indexes WHERE tablename = 'patients'")
    return {row[0] for row in await cursor.fetchall()}


async def test_it_makes_what_is_needed_and_then_nothing(conn: Connection) -> None:
    await conn.execute(PATIENTS)
    text = await ddl(conn)
    await conn.execute(text.encode())
    assert await ddl(conn) == NOTHING
    catalog = await read_catalog(conn, [("public", "patients")])
    bind(POLICY, make_layout(POLICY), catalog, "phiproxy")
    made = await indexes(conn)
    for column, name in (("ssn", "phi_tag_idx_patients_ssn_0"), ("mrn", "phi_tag_idx_patients_mrn_0")):
        assert f'CREATE INDEX {name} ON public.patients USING btree ("substring"({column}, 13, 16))' in made
    physical = (await read_physical(conn, [("public", "patients")]))["public", "patients"]
    assert {c.name: c.storage for c in physical.columns.values()} == {
        "id": "p",
        "name": "x",
        "ssn": "x",
        "mrn": "x",
    } | dict.fromkeys(("name", "ssn", "mrn"), "e")


async def test_the_guard_takes_envelopes_only(conn: Connection) -> None:
    await conn.execute(PATIENTS)
    await conn.execute((await ddl(conn)).encode())
    insert = "INSERT INTO patients (id, name, ssn, mrn) VALUES ({}, {}, {}, {})"
    await conn.execute(insert.format(1, envelope(1, 0), envelope(2, 1), envelope(3, 1)).encode())
    await conn.execute(insert.format(2, envelope(1, 2), "NULL", "NULL").encode())
    for ssn in ("'123-45-6789'", "''", envelope(1, 1), envelope(2, 0), f"substring({envelope(2, 1)}, 1, 60)"):
        with pytest.raises(psycopg.errors.CheckViolation, match="phi_guard_ssn"):
            await conn.execute(insert.format(9, envelope(1, 0), ssn, "NULL").encode())
    assert await ddl(conn) == NOTHING


async def test_unique_constraints_and_indexes_become_tag_indexes_of_the_same_name(conn: Connection) -> None:
    await conn.execute(PATIENTS + "; ALTER TABLE patients ADD CONSTRAINT one_ssn UNIQUE (ssn)")
    await conn.execute("CREATE UNIQUE INDEX one_mrn ON patients (mrn); ALTER TABLE patients ALTER ssn SET DEFAULT NULL::text")
    await conn.execute((await ddl(conn)).encode())
    made = await indexes(conn)
    assert 'CREATE UNIQUE INDEX one_ssn ON public.patients USING btree ("substring"(ssn, 13, 16))' in made
    assert 'CREATE UNIQUE INDEX one_mrn ON public.patients USING btree ("substring"(mrn, 13, 16))' in made
    assert len(made) == 3
    assert await ddl(conn) == NOTHING


async def test_a_plain_index_becomes_a_tag_index(conn: Connection) -> None:
    await conn.execute(PATIENTS + "; CREATE INDEX by_ssn ON patients (ssn)")
    await conn.execute((await ddl(conn)).encode())
    assert 'CREATE INDEX by_ssn ON public.patients USING btree ("substring"(ssn, 13, 16))' in await indexes(conn)
    assert await ddl(conn) == NOTHING


async def test_odd_and_long_names(conn: Connection) -> None:
    table, column = "Ta ble" + "ü" * 25, "select" + "ö" * 25
    policy = make_policy({f'"My.Schema"."{table}"': {f'"{column}"': {"type": "text", "indexes": [f'"{column}"']}}})
    await conn.execute(f'CREATE SCHEMA "My.Schema"; CREATE TABLE "My.Schema"."{table}" (a int, "{column}" varchar(3))'.encode())
    text = await ddl(conn, policy)
    await conn.execute(text.encode())
    assert await ddl(conn, policy) == NOTHING


async def test_a_changed_guard_is_replaced(conn: Connection) -> None:
    await conn.execute(PATIENTS)
    await conn.execute((await ddl(conn)).encode())
    await conn.execute("ALTER TABLE patients DROP CONSTRAINT phi_guard_ssn, ADD CONSTRAINT phi_guard_ssn CHECK (true)")
    await conn.execute("COMMENT ON CONSTRAINT phi_guard_ssn ON patients IS 'phiproxy: column 2 of \"one''s\"'")
    text = await ddl(conn)
    assert "DROP CONSTRAINT phi_guard_ssn" in text
    assert "TYPE bytea" not in text
    await conn.execute(text.encode())
    assert await ddl(conn) == NOTHING
    said = await conn.execute("SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'phi_guard_ssn'")
    assert await said.fetchall() == [('phiproxy: column 2 of "one\'s"',)]


async def test_rows_that_come_between_reading_and_running_are_not_lost(conn: Connection) -> None:
    await conn.execute(PATIENTS)
    text = await ddl(conn)
    await conn.execute("INSERT INTO patients VALUES (1, 'a', 'b', 'c')")
    with pytest.raises(psycopg.errors.RaiseException, match="the table has rows, whose values would be lost"):
        await conn.execute(text.encode())
    await conn.execute("ROLLBACK")
    cursor = await conn.execute("SELECT ssn FROM patients")
    assert await cursor.fetchall() == [("b",)]


async def test_what_a_migration_will_make_is_not_made_here(conn: Connection) -> None:
    assert await ddl(conn) == NOTHING
    await conn.execute(PATIENTS)
    await conn.execute("ALTER TABLE patients DROP COLUMN ssn")
    assert "ssn" not in await ddl(conn)


async def test_row_level_security_needs_columns_of_tags(conn: Connection) -> None:
    await conn.execute(PATIENTS)
    await conn.execute("ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
    text = await ddl(conn)
    assert "ADD COLUMN phi_tag_ssn_0 bytea GENERATED ALWAYS AS (pg_catalog.substring(ssn, 13, 16)) STORED;" in text
    assert "ON public.patients (phi_tag_ssn_0);" in text
    await conn.execute(text.encode())
    assert await ddl(conn) == NOTHING


@pytest.mark.parametrize(
    ("ddl_before", "text"),
    [
        ("INSERT INTO patients VALUES (1, 'a')", "public.patients has rows in plaintext, which `phiproxy encrypt` seals in place"),
        ("ALTER TABLE patients ALTER ssn SET DEFAULT 'x'", "ALTER TABLE public.patients ALTER COLUMN ssn DROP DEFAULT first"),
        ("ALTER TABLE patients ADD CONSTRAINT l CHECK (length(ssn) > 3)", "ALTER TABLE public.patients DROP CONSTRAINT l first"),
        ("CREATE INDEX i ON patients (lower(ssn))", "index i over public.patients.ssn cannot work on encrypted values"),
        ("CREATE INDEX i ON patients (ssn, id)", "index i over public.patients.ssn cannot work"),
        ("CREATE INDEX i ON patients (id) WHERE ssn <> ''", "index i over public.patients.ssn cannot work"),
        ("CREATE INDEX i ON patients (id) INCLUDE (ssn)", "index i over public.patients.ssn cannot work"),
        ("CREATE INDEX i ON patients USING hash (ssn)", "index i over public.patients.ssn cannot work"),
        ("ALTER TABLE patients ADD CONSTRAINT u UNIQUE (ssn) DEFERRABLE", "constraint u over public.patients.ssn cannot work"),
        ("ALTER TABLE patients ADD UNIQUE (name)", "add `indexes: [name]` and run `phiproxy keys init`, or drop it"),
        ("ALTER TABLE patients DROP CONSTRAINT patients_pkey, ADD PRIMARY KEY (ssn)", "a primary key over public.patients.ssn"),
        ("CREATE VIEW v AS SELECT ssn FROM patients", "view v uses public.patients.ssn: drop it first"),
        ("ALTER TABLE patients ADD g text GENERATED ALWAYS AS (ssn) STORED", "uses public.patients.ssn: drop it first"),
        ("ALTER TABLE patients ALTER ssn TYPE char(9)", "public.patients.ssn is character(9), the policy says text"),
        (
            "ALTER TABLE patients ADD UNIQUE (ssn); CREATE TABLE v (s text REFERENCES patients (ssn))",
            "public.patients.ssn is in a foreign key: drop it first",
        ),
    ],
)
async def test_what_a_human_must_do_first(conn: Connection, ddl_before: str, text: str) -> None:
    await conn.execute(PATIENTS)
    await conn.execute(ddl_before.encode())
    message = await refusal(conn)
    assert text in message
    assert message.startswith("policy.yaml: ")


async def test_low_cardinality_needs_a_name(conn: Connection) -> None:
    await conn.execute("CREATE TABLE t (a text)")
    column = {"type": "text", "indexes": ["a"], "distinct": 12}
    assert "declared distinct: 12 (below 1000)" in await refusal(conn, make_policy({"public.t": {"a": column}}))
    accepted = {**column, "accept_leakage": "officer: needed"}
    assert "CREATE INDEX" in await ddl(conn, make_policy({"public.t": {"a": accepted}}))


async def test_a_nondeterministic_collation_is_refused(conn: Connection) -> None:
    cursor = await conn.execute("SELECT FROM pg_catalog.pg_collation WHERE collname = 'und-x-icu'")
    if cursor.rowcount == 0:
        pytest.skip("this server has no ICU")
    await conn.execute("CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    await conn.execute(PATIENTS.replace("ssn text", "ssn text COLLATE nd"))
    assert "public.patients.ssn has a nondeterministic collation" in await refusal(conn)
