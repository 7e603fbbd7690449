"""Salts as they are stored: one per row and data key at most, never shared between rows, statements or executions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import psycopg
import pytest

from tests.harness.clinic import Clinic

COLUMNS = {"patients": ("mrn", "ssn", "full_name", "phone", "address", "notes"), "visits": ("mrn", "diagnosis")}
# Each is run twice. ``@`` becomes a value that nobody has, each a new one.
SHAPES: list[tuple[str, list[object]]] = [
    ("INSERT INTO patients (ssn, full_name, notes) VALUES ('@', '@', '@'), ('@', '@', '@')", []),
    ("INSERT INTO patients (ssn, full_name) VALUES (%s, %s), (%s, %s)", ["@", "@", "@", "@"]),
    ("INSERT INTO patients (ssn, full_name) SELECT '@', '@' UNION ALL SELECT '@', '@'", []),
    ("INSERT INTO patients (ssn, full_name) SELECT a, b FROM (VALUES ('@', '@'), ('@', '@')) v (a, b)", []),
    ("WITH v (a, b) AS (VALUES ('@', '@'), ('@', '@')) INSERT INTO patients (ssn, notes) SELECT x.a, y.b FROM v x, v y", []),
    ("INSERT INTO patients (ssn, notes) SELECT * FROM unnest(%s::text[], %s::text[])", [["@", "@", "@"], ["@", "@", "@"]]),
    ("INSERT INTO patients (ssn, notes) SELECT unnest(%s::text[]), unnest(%s::text[])", [["@", "@"], ["@", "@"]]),
    ("INSERT INTO patients (ssn, notes) SELECT * FROM unnest(ARRAY['@', '@'], ARRAY['@', '@'])", []),
    ("INSERT INTO patients (ssn, notes) SELECT x, y FROM unnest(%s::text[]) x, unnest(%s::text[]) y", [["@", "@"], ["@", "@"]]),
    ("INSERT INTO patients (ssn) VALUES (coalesce(%s, '@')), ((SELECT '@'))", [None]),
    ("INSERT INTO patients (id, ssn) VALUES (1, '@') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn, notes = '@'", []),
    (
        "INSERT INTO patients (id, ssn, notes) VALUES (1, '@', '@')"
        " ON CONFLICT (id) DO UPDATE SET ssn = '@', notes = EXCLUDED.notes",
        [],
    ),
    ("UPDATE patients SET ssn = CASE id WHEN 1 THEN '@' WHEN 2 THEN '@' WHEN 3 THEN '@' END WHERE id <= 3", []),
    (
        "UPDATE patients SET ssn = CASE id WHEN 1 THEN %s ELSE %s END, notes = CASE id WHEN 1 THEN %s ELSE %s END WHERE id <= 2",
        ["@", "@", "@", "@"],
    ),
    ("UPDATE patients SET ssn = COALESCE('@', ssn), notes = CASE WHEN id = 2 THEN notes ELSE '@' END", []),
    ("UPDATE patients SET ssn = (SELECT '@' WHERE id = 1), notes = (SELECT '@' WHERE id = 2)", []),
    ("UPDATE patients p SET ssn = CASE id WHEN 1 THEN a ELSE b END FROM (VALUES ('@', '@')) v (a, b)", []),
    ("UPDATE patients SET (ssn, full_name) = ('@', '@'), notes = '@' WHERE id = 1", []),
    ("UPDATE patients p SET ssn = v.a, notes = v.b FROM (VALUES (1, '@', '@'), (2, '@', '@')) v (i, a, b) WHERE v.i = p.id", []),
    ("UPDATE patients p SET ssn = v.a FROM (SELECT 1 AS i, '@' AS a UNION ALL SELECT 2, '@') v WHERE v.i = p.id", []),
    ("UPDATE patients p SET ssn = u.s FROM unnest(ARRAY[1, 2]::int[], %s::text[]) u (i, s) WHERE u.i = p.id", [["@", "@"]]),
    (
        "MERGE INTO patients p USING (VALUES (1, '@', '@'), (9001, '@', '@')) s (i, a, b) ON p.id = s.i"
        " WHEN MATCHED THEN UPDATE SET ssn = s.a, notes = '@' WHEN NOT MATCHED THEN INSERT (ssn, notes) VALUES (s.a, s.b)",
        [],
    ),
    ("INSERT INTO patients (ssn) VALUES ('@'); INSERT INTO patients (ssn) VALUES ('@'); UPDATE patients SET notes = '@'", []),
    (
        "UPDATE patients SET ssn = '@' WHERE id = 1; PREPARE q AS INSERT INTO patients (ssn) VALUES ($1);"
        " EXECUTE q('@'); EXECUTE q('@')",
        [],
    ),
    ("WITH d AS (DELETE FROM visits WHERE id > 1 RETURNING mrn) INSERT INTO visits (mrn, diagnosis) SELECT mrn, '@' FROM d", []),
    (
        "WITH v (a, b) AS (VALUES ('@', '@')), u AS (UPDATE patients SET ssn = a FROM v WHERE id = 1)"
        " UPDATE patients SET notes = b FROM v WHERE id = 2",
        [],
    ),
]


def filled(clinic: Clinic, value: object) -> object:
    if isinstance(value, list):
        return [filled(clinic, one) for one in value]
    if not isinstance(value, str):
        return value
    first, *rest = value.split("@")
    return first + "".join(clinic.plant("ssn") + part for part in rest)


def rows(clinic: Clinic) -> list[dict[bytes, set[bytes]]]:
    """Return for each stored row its salts, each with the envelopes in that row that have it."""
    found = []
    with clinic.superuser() as conn:
        for table, columns in COLUMNS.items():
            for row in conn.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                salts: dict[bytes, set[bytes]] = defaultdict(set)
                for envelope in row:
                    if envelope is not None:
                        salts[envelope[5:9] + envelope[12 + 16 * envelope[11] :][:16]].add(bytes(envelope))
                found.append(dict(salts))
    return found


def assert_no_salt_is_shared(found: Sequence[dict[bytes, set[bytes]]]) -> set[bytes]:
    """Two envelopes under one salt stand in one row somewhere; the others that hold them are copies. Returns all salts."""
    envelopes: dict[bytes, set[bytes]] = defaultdict(set)
    for row in found:
        for salt, values in row.items():
            envelopes[salt] |= values
    for salt, values in envelopes.items():
        assert any(row.get(salt) == values for row in found), f"{len(values)} envelopes of different rows share a salt"
    return set(envelopes)


@pytest.mark.parametrize(("statement", "params"), SHAPES)
def test_salts(clinic: Clinic, statement: str, params: list[object]) -> None:
    clinic.seed(3)
    with clinic.superuser() as conn:
        if statement.startswith("MERGE") and conn.info.server_version < 150000:
            pytest.skip("MERGE needs PostgreSQL 15")
    before = assert_no_salt_is_shared(rows(clinic))
    for _ in range(2):
        with psycopg.connect(clinic.proxy_dsn) as conn:
            text = str(filled(clinic, statement))
            values = [filled(clinic, value) for value in params]
            assert conn.execute(text, values or None).rowcount > 0
        assert_no_salt_is_shared(rows(clinic))
    again = assert_no_salt_is_shared(rows(clinic)) - before
    assert again, "nothing was sealed"


def test_the_same_text_is_sealed_afresh_each_time(clinic: Clinic) -> None:
    value = clinic.plant("ssn")
    with psycopg.connect(clinic.proxy_dsn) as conn:
        for _ in range(6):
            conn.execute("INSERT INTO patients (ssn, notes) VALUES (%s, %s)", (value, value))
        conn.execute(f"INSERT INTO patients (ssn, notes) VALUES ('{value}', '{value}'), ('{value}', '{value}')")
    stored = rows(clinic)
    assert len(stored) == 8
    assert all(len(row) == 1 for row in stored), "what goes to one row is sealed under one salt"
    assert len(assert_no_salt_is_shared(stored)) == 8
    envelopes = [e for row in stored for values in row.values() for e in values]
    assert len(set(envelopes)) == 16
