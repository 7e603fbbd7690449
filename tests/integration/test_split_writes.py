"""Writes that are split, by both protocols, in every format: stored, shown and told is what PostgreSQL does with the whole."""

from __future__ import annotations

import asyncpg
import psycopg
import pytest

from tests.harness.clinic import Clinic
from tests.harness.differential import SELECTS, Differential, Protocol

STATE = "SELECT * FROM patients ORDER BY id; SELECT * FROM visits ORDER BY id"
NAME = "SELECT full_name FROM patients ORDER BY id"
STATEMENTS = {
    "appended": "UPDATE patients SET notes = notes || ' (seen)' WHERE id = 2",
    "appended to all": "UPDATE patients SET notes = notes || ' (seen)'",
    "of another column": "UPDATE patients SET full_name = ssn WHERE id < 3",
    "several": "UPDATE patients SET notes = upper(notes), full_name = initcap(full_name), city = lower(city) RETURNING *",
    "rows chosen": "UPDATE patients SET city = 'found' WHERE full_name ILIKE '%zo%'",
    "rows chosen, values given": "UPDATE patients SET ssn = 'new', mrn = DEFAULT WHERE full_name ILIKE '%zo%' RETURNING id, ssn",
    "no rows": "UPDATE patients SET notes = notes || 'x' WHERE full_name LIKE 'nobody%' RETURNING notes",
    "from another table": "UPDATE patients p SET notes = p.notes || v.diagnosis FROM visits v WHERE v.patient_id = p.id",
    "from a query": "WITH c AS (SELECT patient_id, max(diagnosis) AS d FROM visits GROUP BY 1)"
    " UPDATE patients SET notes = c.d FROM c WHERE c.patient_id = patients.id",
    "a list of columns": "UPDATE patients SET (notes, city) = (notes || '!', 'x') WHERE id = 1",
    "the same for all rows": "UPDATE patients SET notes = repeat('ab', 3) WHERE id < 3",
    "null": "UPDATE patients SET notes = NULL || notes, full_name = CASE WHEN id = 1 THEN upper(full_name) ELSE full_name END",
    "deleted": "DELETE FROM visits WHERE diagnosis ILIKE '%a%' RETURNING id, diagnosis",
    "deleted by another table": "DELETE FROM visits v USING patients p WHERE p.id = v.patient_id AND p.full_name ILIKE '%zo%'",
    "inserted values": "INSERT INTO visits (mrn, diagnosis, room) VALUES (repeat('x', 3), reverse('abc'), 'r1'), (NULL, 'p', 'r2')",
    "inserted computed rows": "INSERT INTO visits (patient_id, diagnosis, room) SELECT id, upper(full_name), city FROM patients"
    " WHERE notes LIKE '%' RETURNING patient_id, diagnosis",
    "inserted unprotected values": "INSERT INTO visits (diagnosis) SELECT city FROM patients",
    "inserted of another identity": "INSERT INTO visits (diagnosis) SELECT full_name FROM patients ORDER BY full_name LIMIT 2",
    "in conflict by two columns": "INSERT INTO members AS m (email, city, mrn) SELECT email, city, 'abc' FROM members WHERE id = 1"
    " ON CONFLICT (email, city) DO UPDATE SET mrn = left(m.mrn, 2) || EXCLUDED.mrn RETURNING mrn",
    "returning computed": "INSERT INTO visits (mrn, diagnosis) VALUES ('m', 'd') RETURNING upper(diagnosis) || '!' AS said, mrn",
    "update returning computed": "UPDATE patients SET ssn = 'x' WHERE id = 1 RETURNING id, length(ssn), lower(full_name) AS name",
    "update returning what the planner folds": (
        "UPDATE patients SET notes = upper(notes) WHERE id < 3"
        " RETURNING CASE WHEN NULL::int < id THEN lpad(city, 5, '*') ELSE notes::varchar(3) END, ssn"
    ),
    "all computed": "UPDATE patients SET notes = notes || '!' WHERE full_name ILIKE '%zo%' RETURNING reverse(notes), id",
    "all beside returned": "UPDATE patients p SET notes = upper(p.notes) FROM visits v, (SELECT 1, B'10101'::bit(5), 'a'::\"char\")"
    " AS x (n, bits, letter), (SELECT) AS nothing WHERE v.patient_id = p.id RETURNING *",
    "nothing beside returned": "UPDATE patients p SET notes = upper(p.notes) FROM (SELECT) AS nothing WHERE id = 1 RETURNING *",
    "delete returning computed": "DELETE FROM visits WHERE id < 3 RETURNING upper(diagnosis)",
}
WITH_PARAMETERS: dict[str, tuple[str, tuple[object, ...]]] = {
    "appended": ("UPDATE patients SET notes = notes || $1 WHERE id = $2", (" seen", 2)),
    "appended and more": (
        "UPDATE patients SET notes = notes || $1, city = $3 WHERE id = $2 RETURNING id, notes, city",
        ("!", 2, "Ogdenville"),
    ),
    "chosen": ("DELETE FROM visits WHERE diagnosis ILIKE $1", ("%a%",)),
    "stored": ("UPDATE patients SET ssn = $1, full_name = $2 WHERE full_name ILIKE $3", ("new ssn", "new name", "%zo%")),
    "inserted": (
        "INSERT INTO visits (mrn, diagnosis, room) VALUES (left($1, 3), initcap($2), $3) RETURNING mrn, diagnosis",
        ("abcdef", "the flu", "r9"),
    ),
    "of a query": (
        "INSERT INTO visits (diagnosis, room) SELECT upper(full_name) || $1, $2 FROM patients WHERE id < 3",
        ("!", "r8"),
    ),
    "returning": ("INSERT INTO visits (diagnosis, room) VALUES ($1, $2) RETURNING upper(diagnosis), room", ("flu", "r7")),
    "all from one statement": (
        "INSERT INTO visits (patient_id, room, diagnosis) VALUES ((SELECT id FROM patients WHERE mrn = $1::varchar), $2::varchar,"
        " initcap($3::varchar) || $4::varchar) RETURNING upper(diagnosis)",
        ("m", "r6", "flu", "!"),
    ),
    "a pattern that comes later": ("DELETE FROM visits WHERE diagnosis LIKE $1 RETURNING id, diagnosis", ("%a%",)),
    "a pattern beside what is computed": ("UPDATE patients SET notes = reverse($1) WHERE full_name LIKE $2", ("abc", "%o%")),
    "of rows of a pattern": ("INSERT INTO visits (mrn) SELECT mrn FROM patients WHERE full_name LIKE $1", ("%o%",)),
    "twice": ("UPDATE patients SET notes = $1 || notes || $1 WHERE id = 3", ("-",)),
}
FAILING = {
    "too long": ("UPDATE patients SET mrn = mrn || 'much longer than that'", "22001"),
    "of another type": ("UPDATE patients SET notes = notes::int::text", "22P02"),
    "division": ("UPDATE patients SET notes = (length(notes) / (id - 1))::text", "22012"),
    "foreign key": ("DELETE FROM patients WHERE full_name ILIKE '%'", "23503"),
    "not assignable": ("UPDATE patients SET active = notes || 'x'", "42804"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_as_the_whole_statement(kept_both: Differential, name: str) -> None:
    statement = STATEMENTS[name]
    ways: list[tuple[Protocol, int, bool]] = [("simple", 0, False), *(("extended", form, named) for _, form, named in SELECTS[:4])]
    for protocol, results, named in ways:
        kept_both.run("BEGIN")
        outcome = kept_both.run(statement, protocol=protocol, result_format=results, named=named, ordered=False)
        assert outcome.status in ("TUPLES_OK", "COMMAND_OK"), outcome.message
        kept_both.run(STATE, protocol="simple")
        kept_both.run("ROLLBACK")


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_with_parameters(kept_both: Differential, name: str) -> None:
    statement, values = WITH_PARAMETERS[name]
    for _, results, named in SELECTS[:4]:
        kept_both.run("BEGIN")
        outcome = kept_both.run(statement, values, result_format=results, named=named, ordered=False)
        assert outcome.status in ("TUPLES_OK", "COMMAND_OK"), outcome.message
        kept_both.run(STATE, protocol="simple")
        kept_both.run("ROLLBACK")


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_fails_as_in_postgresql_and_writes_nothing(kept_both: Differential, name: str) -> None:
    statement, sqlstate = FAILING[name]
    protocols: tuple[Protocol, ...] = ("simple", "extended")
    for protocol in protocols:
        assert kept_both.run(statement, protocol=protocol).sqlstate == sqlstate
        kept_both.run(STATE, protocol="simple")


DECLARED: dict[str, tuple[str, tuple[object, ...], tuple[int, ...]]] = {
    "small integers": ("UPDATE patients SET notes = repeat(notes, $1), visits_count = $2 WHERE id = $3", (2, 5, 1), (23, 21, 21)),
    "texts": ("UPDATE patients SET notes = concat(notes, $1), city = $2 WHERE id = $3", ("!", "x", 1), (25, 25, 20)),
    "an integer as text": ("UPDATE patients SET notes = $1 WHERE full_name ILIKE $2", (12, "%zo%"), (23, 25)),
}


@pytest.mark.parametrize("name", DECLARED)
def test_with_declared_types(kept_both: Differential, name: str) -> None:
    statement, values, types = DECLARED[name]
    for named in (False, True):
        kept_both.run("BEGIN")
        outcome = kept_both.run(statement, values, types=types, named=named)
        assert outcome.status == "COMMAND_OK", outcome.message
        kept_both.run(STATE, protocol="simple")
        kept_both.run("ROLLBACK")


def test_what_is_given_is_nowhere_in_clear(split_clinic: Clinic) -> None:
    """The leak oracle looks for what is planted: in what was sent, in the database, in logs and in the engine's files."""
    split_clinic.seed()
    planted = [split_clinic.plant() for _ in range(6)]
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute("UPDATE patients SET notes = notes || %s WHERE id = 1", (planted[0],))
        conn.execute(
            f"UPDATE patients SET notes = '{planted[1]}' || notes WHERE city = 'x' OR notes ILIKE '%{planted[0]}'".encode()
        )
        conn.execute("INSERT INTO visits (diagnosis) VALUES (upper(%s) || ' ' || %s)", (planted[2], planted[3]))
        conn.execute("INSERT INTO visits (diagnosis) SELECT notes || %s FROM patients", (planted[4],))
        conn.execute("DELETE FROM patients WHERE notes LIKE %s RETURNING lower(notes)", (f"%{planted[5]}%",))
        rows = conn.execute("SELECT notes FROM patients WHERE id = 1").fetchall()
    assert str(rows[0][0]).startswith(planted[1])
    assert str(rows[0][0]).endswith(planted[0])


async def test_parts_of_a_result_and_statements_that_are_run_again(split_clinic: Clinic) -> None:
    split_clinic.seed()
    conn = await asyncpg.connect(split_clinic.proxy_dsn)
    try:
        async with conn.transaction():
            found = [
                row["id"] async for row in conn.cursor("UPDATE patients SET notes = notes || $1 RETURNING id", "!", prefetch=2)
            ]
        assert found == await conn.fetchval("SELECT array_agg(id) FROM patients WHERE notes LIKE '%!'")
        prepared = await conn.prepare("UPDATE patients SET notes = notes || $1 WHERE id = $2 RETURNING notes, reverse(notes)")
        for time in range(3):
            row = await prepared.fetchrow(str(time), 1)
            assert row is not None
            assert row["notes"].endswith("!012"[: time + 2])
            assert row["reverse"] == row["notes"][::-1]
        await conn.executemany("INSERT INTO visits (diagnosis) VALUES (initcap($1))", [("one",), ("two",), ("three",)])
        assert await conn.fetchval("SELECT count(*) FROM visits WHERE diagnosis IN ('One', 'Two', 'Three')") == 3
        assert not await conn.fetch("SELECT FROM pg_prepared_statements WHERE name LIKE 'phiproxy%'")
    finally:
        await conn.close()


def test_pipelines(split_clinic: Clinic) -> None:
    split_clinic.seed()
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        with conn.pipeline():
            cursors = []
            for count in range(1, 6):
                update = "UPDATE patients SET notes = notes || %s WHERE id = 1 RETURNING right(notes, %s)"
                cursors.append(conn.execute(update, (str(count), count)))
                cursors.append(conn.execute("SELECT right(notes, %s) FROM patients WHERE id = 1", (count,)))
        said = [cursor.fetchall()[0][0] for cursor in cursors]
    assert said == [text for count in range(1, 6) for text in ["12345"[:count]] * 2]


def test_a_failed_write_leaves_the_session_as_it_was(split_clinic: Clinic) -> None:
    split_clinic.seed()
    with psycopg.connect(split_clinic.proxy_dsn) as conn:
        for _ in range(2):
            with pytest.raises(psycopg.errors.StringDataRightTruncation), conn.transaction():
                conn.execute("UPDATE patients SET mrn = mrn || 'much longer than that'")
            with pytest.raises(psycopg.errors.InvalidTextRepresentation), conn.transaction():
                conn.execute("UPDATE patients SET notes = notes::int::text")
        assert conn.execute("UPDATE patients SET notes = notes || '!' WHERE id = 1").rowcount == 1


def test_each_row_has_a_value_of_its_own(both: Differential) -> None:
    for statement in (
        "INSERT INTO patients (ssn) VALUES (gen_random_uuid()::text), (gen_random_uuid()::text), ('x' || clock_timestamp())",
        "WITH n AS (SELECT 1) INSERT INTO patients (ssn, city) VALUES (upper(gen_random_uuid()::text), 'x')",
        "INSERT INTO patients (ssn) VALUES (CASE WHEN 1 = 1 THEN gen_random_uuid()::text END)",
    ):
        assert both.run(statement).sqlstate is None
    both.run("SELECT count(*), count(DISTINCT ssn) FROM patients")
    for statement in (
        "INSERT INTO patients (ssn) SELECT gen_random_uuid()::text FROM patients",
        "UPDATE patients SET ssn = clock_timestamp() || gen_random_uuid()::text",
    ):
        assert both.run(statement).sqlstate is None
        both.run("SELECT count(*), count(DISTINCT ssn) FROM patients")


def test_what_is_drawn_is_drawn_in_order(both: Differential) -> None:
    """Each number once, by the rows and columns for which PostgreSQL draws it; also what lastval() and setseed() show of that."""
    both.run("CREATE SEQUENCE numbers", protocol="simple")
    both.run("ALTER TABLE visits ALTER id DROP DEFAULT", protocol="simple")
    both.run("ALTER TABLE visits ALTER id ADD GENERATED ALWAYS AS IDENTITY (START 500)", protocol="simple")
    # Autovacuum that looks at one of the two tables only has PostgreSQL read its groups, which nothing orders, in another order.
    both.run("ALTER TABLE visits SET (autovacuum_enabled = off)", protocol="simple")
    both.run("ANALYZE visits", protocol="simple")
    seen = "SELECT lastval(), currval('numbers'); SELECT * FROM patients ORDER BY id; SELECT * FROM visits ORDER BY id"
    try:
        for statement in (
            "INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers'))",
            "INSERT INTO visits (diagnosis) VALUES ('D' || nextval('numbers')) RETURNING id, diagnosis",
            "INSERT INTO visits (id, diagnosis) VALUES (DEFAULT, 'D' || nextval('numbers')), (DEFAULT, 'D' || nextval('numbers'))",
            "INSERT INTO visits (diagnosis) VALUES ('D' || nextval('numbers')), ('D' || nextval('numbers'))",
            "INSERT INTO visits (id, diagnosis) OVERRIDING SYSTEM VALUE VALUES (nextval('numbers') + 99, 'D' || lastval())",
            "INSERT INTO visits (diagnosis, room) SELECT upper(notes) || nextval('numbers'), lastval() FROM patients",
            "UPDATE patients SET notes = notes || nextval('numbers') WHERE id = 2",
            "INSERT INTO visits (diagnosis) SELECT w || nextval('numbers') FROM (SELECT upper(room) AS w FROM visits) q",
            "WITH q (w) AS (SELECT max(room) FROM visits GROUP BY id) INSERT INTO visits (diagnosis)"
            " SELECT q.w || nextval('numbers') FROM q",
            "SELECT setseed(0.25)",
            "INSERT INTO patients (notes, ssn) VALUES ('n' || random(), 's' || random()), (random()::text, NULL)",
            "UPDATE patients SET ssn = random()::text WHERE id = 1",
            "INSERT INTO patients (mrn, notes) SELECT NULL, left(ssn, 1) || random() FROM patients ORDER BY id",
            "MERGE INTO patients p USING (VALUES (-1)) s (id) ON p.id = s.id"
            " WHEN NOT MATCHED THEN INSERT (mrn, visits_count) VALUES ('M' || nextval('numbers'), nextval('visits_id_seq'))",
            "MERGE INTO visits v USING (VALUES (-1, 'w')) s (id, word) ON v.id = s.id"
            " WHEN NOT MATCHED THEN INSERT (diagnosis, room) VALUES (s.word || lastval(), nextval('numbers'))",
            "MERGE INTO visits v USING (VALUES (-1)) s (id) ON v.id = s.id"
            " WHEN NOT MATCHED THEN INSERT (diagnosis, id) VALUES ('D' || nextval('numbers'), DEFAULT)",
            "MERGE INTO patients p USING (VALUES (1, 'w')) s (id, word) ON p.id = s.id WHEN NOT MATCHED THEN DO NOTHING"
            " WHEN MATCHED THEN UPDATE SET notes = p.notes || nextval('numbers'), visits_count = p.visits_count + lastval()",
            "MERGE INTO patients p USING (VALUES (1)) s (id) ON p.id = s.id"
            " WHEN NOT MATCHED THEN INSERT (mrn) VALUES ('M' || nextval('numbers'))",
        ):
            if statement.startswith("MERGE") and both.plain.server_version < 150_000:
                continue
            refused = "lastval() FROM" in statement
            for protocol in ("simple", "extended"):
                if refused:
                    both.refused(statement, protocol=protocol, hint="SELECT nextval")
                else:
                    assert both.run(statement, protocol=protocol).sqlstate is None
                    both.run(seen, protocol="simple")
    finally:
        both.run("DROP SEQUENCE numbers", protocol="simple")
        both.run("ALTER TABLE visits RESET (autovacuum_enabled)", protocol="simple")
        both.run("ALTER TABLE visits ALTER id DROP IDENTITY", protocol="simple")
        both.run("ALTER TABLE visits ALTER id SET DEFAULT nextval('visits_id_seq')", protocol="simple")


def test_rows_in_conflict_draw_as_they_are_proposed(both: Differential) -> None:
    """Those that are in conflict, and no others; ``lastval()`` and the next of ``random()`` tell how often."""
    both.run("CREATE SEQUENCE numbers", protocol="simple")
    both.run("CREATE SEQUENCE others", protocol="simple")
    rows = "(3, 'c'), (902, 'e'), (1, 'a'), (901, NULL), (2, 'b')"
    upsert = f"INSERT INTO patients AS p (id, notes) VALUES {rows} ON CONFLICT (id) DO UPDATE SET "
    ways: list[Protocol] = ["simple", "extended"]
    try:
        both.run("SELECT nextval('others'), setseed(0.5)", protocol="simple")
        for protocol in ways:
            for values in (
                "notes = EXCLUDED.notes || nextval('numbers') || nextval('others'), city = p.city || 'x'",
                "ssn = lastval() || '.' || nextval('numbers')",
                "ssn = 'r' || random()",
            ):
                assert both.run(upsert + values, protocol=protocol).sqlstate is None
                both.run("SELECT lastval(), random(), last_value FROM numbers", protocol="simple")
                both.run("SELECT * FROM patients ORDER BY id", protocol="simple")
                both.run("DELETE FROM patients WHERE id > 900", protocol="simple")
        twice = upsert.replace("(2, 'b')", "(2, 'b'), (1, 'd')") + "ssn = 'M' || nextval('numbers')"
        assert both.run(twice).sqlstate == "21000"
    finally:
        both.run("DROP SEQUENCE numbers, others", protocol="simple")


def test_what_a_merge_may_not_draw(both: Differential) -> None:
    """Beside a NULL it is not known whether PostgreSQL draws; and only the proxy may say which rows are written."""
    if both.plain.server_version < 150_000:
        pytest.skip("there is no MERGE")
    merge = (
        "MERGE INTO patients p USING (VALUES ($1, $2)) s (mrn, word) ON p.mrn = s.mrn"
        " WHEN NOT MATCHED THEN INSERT (mrn, notes) VALUES (s.mrn, s.word || nextval('patients_id_seq'))"
    )
    both.refused(merge, ("m", None))
    assert both.run(merge, ("m", "w")).sqlstate is None
    own = (
        "MERGE INTO patients p USING ROWS FROM (unnest('{1}'::text[]), unnest('{1}'::text[]), unnest('{t}'::bool[]))"
        " AS phi_write (phi_1, phi_2, phi_3) ON p.ctid = phi_write.phi_1::tid AND p.tableoid = phi_write.phi_2::oid"
        " WHEN NOT MATCHED AND phi_write.phi_3 THEN INSERT (mrn) VALUES ('M' || nextval('patients_id_seq'))"
    )
    for statement in (own, f"PREPARE own AS {own}", f"EXPLAIN {own}", f"SELECT 1; {own}"):
        both.refused(statement, protocol="simple")
    both.refused(own)
