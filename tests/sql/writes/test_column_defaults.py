"""What the server is told of a protected column with a DEFAULT that the client's statement leaves to it."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.rewrite.references_and_markers import marker
from phiproxy.sql.values.uses import Renew
from tests.clinic_model import CATALOG, PATH, PROTECTION

TABLE = Relation(
    5, "public", "patients", "r",
    (
        CatalogColumn("id", 1, 23, -1), CatalogColumn("ssn", 2, 17, -1, has_default=True, default=b"sealed"),
        CatalogColumn("city", 3, 25, -1),
    ),
)  # fmt: skip


def planner() -> Planner:
    relations = (TABLE, *(r for r in CATALOG.relations if r.qualified != "public.patients"))
    return Planner(PROTECTION, dataclasses.replace(CATALOG, relations=relations), Ciphers(Keyring(lambda: 0.0)))


def told(text: str) -> tuple[str, int]:
    """Return what the server sees, with ``?`` for each value, and how many defaults are among these."""
    (answer,) = planner().answers(text.encode(), View(PATH, "clinic", catalog_fresh=True))
    sql = Rendered(text.encode(), answer.edits, answer.occurrences).fill(lambda _i, o: marker(o)).decode()
    return sql.replace(r"'\x00'::bytea", "?"), sum(isinstance(o.use, Renew) for o in answer.occurrences)


@pytest.mark.parametrize(
    ("text", "sql", "defaults"),
    [
        ("INSERT INTO patients (id) VALUES (1)", 'INSERT INTO "public".patients (id, "ssn") VALUES (1, ?)', 1),
        ("INSERT INTO patients VALUES (1, DEFAULT), (2, 'x')", 'INSERT INTO "public".patients VALUES (1, ?), (2, ?)', 1),
        ("INSERT INTO patients VALUES ((1)), ((2))", 'INSERT INTO "public".patients ("id", "ssn") VALUES ((1), ?), ((2), ?)', 2),
        (
            "INSERT INTO patients (id, city) OVERRIDING USER VALUE VALUES (DEFAULT, lower('A'))",
            'INSERT INTO "public".patients (id, city, "ssn") OVERRIDING USER VALUE VALUES (DEFAULT, lower(\'A\'), ?)',
            1,
        ),
        ("INSERT INTO patients AS p DEFAULT VALUES", 'INSERT INTO "public".patients AS p ("ssn") VALUES (?)', 1),
        ("INSERT INTO patients DEFAULT VALUES RETURNING id", 'INSERT INTO "public".patients ("ssn") VALUES (?) RETURNING id', 1),
        (
            "INSERT INTO patients (id) (SELECT max(id) FROM log GROUP BY msg)",
            'INSERT INTO "public".patients (id, "ssn") (SELECT max(id), ? FROM log GROUP BY msg)',
            1,
        ),
        ("INSERT INTO patients SELECT 1", 'INSERT INTO "public".patients ("id", "ssn") SELECT 1, ?', 1),
        ("INSERT INTO patients (id) SELECT 1 UNION SELECT 2", 'INSERT INTO "public".patients (id) SELECT 1 UNION SELECT 2', 0),
        ("INSERT INTO patients (id) VALUES (1) LIMIT 1", 'INSERT INTO "public".patients (id, "ssn") VALUES (1, ?) LIMIT 1', 1),
        ("UPDATE patients SET ssn = DEFAULT", 'UPDATE "public".patients SET ssn = ?', 1),
        (
            "INSERT INTO patients VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET (id, ssn) = (DEFAULT, DEFAULT)",
            'INSERT INTO "public".patients VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET (id, ssn) = (DEFAULT, ?)',
            1,
        ),
        (
            "MERGE INTO patients p USING log l ON p.id = l.id WHEN NOT MATCHED THEN INSERT (id, city) VALUES (l.id, DEFAULT)",
            'MERGE INTO "public".patients p USING log l ON p.id = l.id WHEN NOT MATCHED THEN'
            ' INSERT (id, city, "ssn") VALUES (l.id, DEFAULT, ?)',
            1,
        ),
        (
            "MERGE INTO patients p USING log l ON p.id = l.id WHEN NOT MATCHED THEN INSERT OVERRIDING SYSTEM VALUE VALUES (l.id)",
            'MERGE INTO "public".patients p USING log l ON p.id = l.id WHEN NOT MATCHED THEN'
            ' INSERT ("id", "ssn") OVERRIDING SYSTEM VALUE VALUES (l.id, ?)',
            1,
        ),
        ("COPY patients (city, id) FROM STDIN", 'COPY "public".patients ("city", "id", "ssn") FROM STDIN', 0),
        ("COPY patients FROM STDIN", 'COPY "public".patients ("id", "ssn", "city") FROM STDIN', 0),
        ("COPY patients (id) TO STDOUT", 'COPY "public".patients (id) TO STDOUT', 0),
    ],
)
def test_what_the_server_sees(text: str, sql: str, defaults: int) -> None:
    assert told(text) == (sql, defaults)


def test_a_plan_with_defaults_is_cached() -> None:
    own_planner, view = planner(), View(PATH, "clinic", catalog_fresh=True)
    text = b"INSERT INTO patients (id) VALUES ($1)"
    assert own_planner.statement(text, (), view) is own_planner.statement(text, (), view)
