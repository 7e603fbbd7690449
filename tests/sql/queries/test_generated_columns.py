"""Hidden columns in the middle of a table: what counts columns is told which ones are meant."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION, relation
from tests.sql.ask import VIEW, ask

T = '"public".patients'
HIDDEN = relation(100, "public", "patients", "id", "ssn", "phi_tag_ssn_0", "full_name", "mrn", "notes", "city", "active")
PLANNER = Planner(
    PROTECTION,
    dataclasses.replace(CATALOG, relations=(HIDDEN, *CATALOG.relations[1:])),
    Ciphers(Keyring(lambda: 0.0)),
)


def server(statement: str) -> str:
    return PLANNER.statement(statement.encode(), (), VIEW).sql.decode()


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (f"INSERT INTO {T} VALUES (1, $1)", f"INSERT INTO {T} VALUES (1, $1)"),
        (f"INSERT INTO {T} VALUES (1, $1, $2)", f'INSERT INTO {T} ("id", "ssn", "full_name") VALUES (1, $1, $2)'),
        (
            f"INSERT INTO {T} AS p VALUES (1, $1, $2), (2, NULL, DEFAULT)",
            f'INSERT INTO {T} AS p ("id", "ssn", "full_name") VALUES (1, $1, $2), (2, NULL::bytea, DEFAULT)',
        ),
        (
            f"INSERT INTO {T} OVERRIDING SYSTEM VALUE SELECT id, ssn, full_name FROM {T}",
            f'INSERT INTO {T} ("id", "ssn", "full_name") OVERRIDING SYSTEM VALUE SELECT id, ssn, full_name FROM {T}',
        ),
        (f"INSERT INTO {T} DEFAULT VALUES", f"INSERT INTO {T} DEFAULT VALUES"),
        (f"INSERT INTO {T} (id, full_name) VALUES (1, $1)", f"INSERT INTO {T} (id, full_name) VALUES (1, $1)"),
    ],
)
def test_an_insert_without_columns_lists_those_that_clients_know(client: str, expected: str) -> None:
    assert server(client) == expected


@pytest.mark.parametrize(
    ("star", "expected"),
    [
        ("SELECT * FROM {T} p WHERE id = 1", "SELECT {p} FROM {T} p WHERE id = 1"),
        ("SELECT p.*, v.* FROM {T} p, public.visits v", "SELECT {p}, v.* FROM {T} p, public.visits v"),
        (
            "SELECT v.*, x.* FROM (SELECT p . * FROM {T} p) x, public.visits v",
            "SELECT v.*, x.* FROM (SELECT {p} FROM {T} p) x, public.visits v",
        ),
        ("DELETE FROM {T} AS p RETURNING *, 1", "DELETE FROM {T} AS p RETURNING {p}, 1"),
        ("UPDATE {T} p SET city = 'x' RETURNING p.*", "UPDATE {T} p SET city = 'x' RETURNING {p}"),
        ("SELECT count(*) FROM {T} p", "SELECT count(*) FROM {T} p"),
    ],
)
def test_a_star_lists_the_columns_that_clients_know(star: str, expected: str) -> None:
    listed = ", ".join(f'"p"."{c.name}"' for c in HIDDEN.columns if not c.name.startswith("phi_tag_"))
    assert server(star.format(T=T)) == expected.format(T=T, p=listed)


def test_a_star_over_two_tables_lists_both() -> None:
    sql = server(f"SELECT * FROM {T} p JOIN public.visits v ON v.id = p.id")
    assert '"p"."active", "v"."id", "v"."patient_id"' in sql
    merged = server(f"SELECT * FROM {T} p FULL JOIN public.visits v USING (id)")
    assert merged.startswith('SELECT COALESCE("p"."id", "v"."id") AS "id", "p"."ssn"')
    assert "phi_tag_" not in merged


def test_without_hidden_columns_nothing_is_added() -> None:
    client = f"INSERT INTO {T} VALUES (1, $1, $2)"
    assert ask(client) == client


def test_merge_asks_for_a_list() -> None:
    with pytest.raises(StatementRefused) as refused:
        server(f"MERGE INTO {T} p USING log l ON p.id = l.id WHEN NOT MATCHED THEN INSERT VALUES (1, 'x', 'y')")
    assert refused.value.hint == "List the columns."


def test_table_is_a_star_too() -> None:
    for text in (f"TABLE {T}", f"TABLE ONLY {T} LIMIT 1"):
        sql = server(text)
        assert sql.startswith('SELECT "patients"."id"')
        assert sql.endswith(text.replace("TABLE", "FROM"))
        assert "phi_tag_" not in sql
