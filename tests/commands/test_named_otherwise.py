"""Jobs over tables and columns of any name, in databases of other encodings: they are looked at, and done, like all others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from phiproxy.policy.identifiers import quote_ident
from tests.commands.conftest import Clinic

TABLE, COLUMN, KEY = """le 10% d'"ici" %s""", """mot%s dit "so" 'é' {0}""", "a%b {c}"
POLICY = """\
database: {database}
deployment: clinic-test
tables:
  {table}:
    columns:
      {column}: {{type: text, indexes: [{column}, {prefix}], distinct: 100000, accept_leakage: x}}
      note: {{type: text, pad: 64}}
"""
NAMES = {"t": sql.Identifier(TABLE), "c": sql.Identifier(COLUMN), "k": sql.Identifier(KEY), "type": sql.Identifier("dom%s {0}")}


def statement(conn: psycopg.Connection[tuple[object, ...]], text: str) -> psycopg.Cursor[tuple[object, ...]]:
    return conn.execute(sql.SQL(text).format(**NAMES))


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def named(clinic: Clinic, request: pytest.FixtureRequest) -> Iterator[Clinic]:
    """A clinic in such a database; its only table has such names, and rows in plaintext."""
    own = Clinic(clinic.server, f"{clinic.database}_other", clinic.directory, clinic.capture)
    with clinic.server.connect() as conn:
        conn.execute(f"CREATE DATABASE {own.database} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'".encode())
    names = (f"public.{quote_ident(TABLE)}", quote_ident(COLUMN), f"left({quote_ident(COLUMN)}, 3)")
    table, column, prefix = (json.dumps(name, ensure_ascii=False) for name in names)
    own.policy.write_text(POLICY.format(database=own.database, table=table, column=column, prefix=prefix))
    with connected(own) as conn:
        statement(conn, "CREATE DOMAIN {type} AS text")
        statement(conn, "CREATE TABLE {t} ({k} {type} PRIMARY KEY, {c} text UNIQUE, note text)")
        statement(conn, "INSERT INTO {t} SELECT '%s' || n, 'é' || n, 'n' FROM generate_series(1, 12) n")
    yield own
    own.server.drop_database(own.database)


def connected(clinic: Clinic) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(clinic.server.dsn(clinic.database), autocommit=True, client_encoding="UTF8")


def test_a_life_of_jobs(named: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed, sealed anew, given new tags, answered for, and opened: each is looked at, and done; the rows are what they were."""
    monkeypatch.chdir(named.directory)
    with connected(named) as conn:
        before = statement(conn, "SELECT {k}, {c}, note FROM {t} ORDER BY 1").fetchall()
        done("keys", "init", on=named)
        looked_at_and_done("encrypt", on=named)
        assert statement(conn, "SELECT pg_typeof({c})::text, count(*) FROM {t} GROUP BY 1").fetchall() == [("bytea", 12)]
        done("keys", "rotate", on=named)
        assert "12 rows are written anew" in looked_at_and_done("recrypt", on=named)
        slot = looked_at_and_done("keys", "rotate", "--index", f"public.{TABLE}.{COLUMN}:@", on=named)
        assert "12 rows are written anew" in slot
        looked_at_and_done("respond", "--kek", "local:kek.json", "--reason", "a test", on=named)
        done("check", on=named)
        looked_at_and_done("decrypt", f"public.{TABLE}", on=named)
        assert statement(conn, "SELECT {k}, {c}, note FROM {t} ORDER BY 1").fetchall() == before


def looked_at_and_done(*arguments: str, on: Clinic) -> str:
    """Do it, and return what a look has said before."""
    look = done(*arguments, "--dry-run", on=on)
    done(*arguments, on=on)
    return look


def done(*arguments: str, on: Clinic) -> str:
    code, out, err = on.run(*arguments)
    assert code == 0, (arguments, err)
    return out
