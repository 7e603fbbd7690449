"""Documents that are long or deep, which another thread reads, seals and opens: what comes back is what PostgreSQL gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.harness import results
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

POLICY = """\
database: {database}
deployment: long-documents
tables:
  public.charts:
    columns:
      doc:
        type: jsonb
        fields:
          "$.ssn":             {type: text, indexes: [value], distinct: 100000000}
          "$.history[*].note": {type: text, pad: 32}
          "$.extra":           {type: jsonb}
        others: clear
      closed:
        type: jsonb
        fields: {"$.ssn": {type: text}}
        others: sealed
        clear: ["$.deep"]
      whole: {type: jsonb, indexes: ["whole->>'ssn'"], distinct: 100000000}
"""
DDL = "CREATE TABLE charts (id int PRIMARY KEY, doc jsonb, closed jsonb, whole jsonb);"
COLUMNS = ("doc", "closed", "whole")
READ = (
    "SELECT doc, closed, whole FROM charts ORDER BY id",
    "SELECT doc->'history', doc->>'extra', doc#>>'{history,1,note}', closed->'history', whole FROM charts ORDER BY id",
    "SELECT id FROM charts WHERE doc->>'ssn' = '{ssn}' AND whole->>'ssn' = '{ssn}' ORDER BY id",
    "TABLE charts",
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(postgres_server, tmp_path_factory.mktemp("long"), policy=POLICY, ddl=DDL) as site:
        yield site


@pytest.fixture
def oracle(site: Site) -> Iterator[LeakOracle]:
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: [site.proxy.log_path])
    yield oracle
    oracle.assert_no_leak()


def documents(secret: str) -> list[bytes]:
    """A long one, a deep one whose depth is in clear, and one of which a single value is long, or deep."""
    notes = [{"note": f"{secret} {n}", "on": "2020", "n": 1.50} for n in range(60)]
    long = {"ssn": secret, "ward": ["x" * 1000] * 80, "history": [None, *notes], "extra": {"é\n": [secret] * 90}}
    deep = b'{"ssn": "%b", "deep": %b1.0%b}' % (secret.encode(), b'{"a": [' * 1500, b"]}" * 1500)
    one = {"ssn": secret, "extra": secret * 5000, "history": []}
    in_it = b'{"ssn": "%b", "extra": %b"%b"%b}' % (secret.encode(), b"[" * 3000, secret.encode(), b"]" * 3000)
    marked = {"ssn": "phi1:f55001" + secret, "ward": ["x" * 1000] * 80, "history": [{"note": f"phi1:f55001 {secret}"}] * 9}
    spelled = json.dumps(marked).encode().replace(b"phi1", b"\\u0070hi1", 5)
    return [json.dumps(long).encode(), deep, json.dumps(one, ensure_ascii=False).encode(), in_it, spelled]


@pytest.mark.parametrize("way", ["text", "binary", "literals", "copy", "binary copy"])
def test_long_and_deep_documents(site: Site, oracle: LeakOracle, way: str) -> None:
    secret = oracle.plant("ssn")
    rows = documents(secret)
    with psycopg.connect(site.plain_dsn, autocommit=True) as plain, psycopg.connect(site.proxy_dsn, autocommit=True) as proxied:
        for conn in (plain, proxied):
            conn.execute("DELETE FROM charts")
            store(conn, rows, way)
        for query in READ:
            for got in (0, 1):
                form = results.Form(None, 0, got)
                asked = query.replace("{ssn}", secret)
                expected, found = (results.extended(conn.pgconn, asked, [], form)[-1] for conn in (plain, proxied))
                assert found.sqlstate is None, found.message
                assert found.rows == expected.rows, query
        copied = "COPY (SELECT doc, closed, whole FROM charts ORDER BY id) TO STDOUT"
        for how in ("", " (FORMAT csv)", " (FORMAT binary)"):
            assert given(proxied, copied + how) == given(plain, copied + how)
        with psycopg.connect(site.sealed_dsn, autocommit=True) as owner:
            (stored,) = owner.execute("SELECT doc::text FROM charts ORDER BY id LIMIT 1").fetchone() or ()
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="spelling of a stored one"):
            store(proxied, [stored.encode().replace(b"phi1", b"\\u0070hi1", 3)], way, fresh=100)


def store(conn: psycopg.Connection[Any], rows: list[bytes], way: str, fresh: int = 0) -> None:
    if "copy" in way:
        binary = "binary" in way
        text = "COPY charts (id, doc, closed, whole) FROM STDIN" + (" (FORMAT binary)" if binary else "")
        cursor = conn.cursor()
        cursor.adapters.register_dumper(Raw, RawDumper)  # not for all: jsonb is dumped by the last that was
        with cursor.copy(text.encode()) as copy:
            copy.set_types(["int4", *["jsonb" if binary else "text"] * 3])
            for number, row in enumerate(rows, fresh):
                given_value: object = Raw(row) if binary else row.decode()
                copy.write_row([number, given_value, given_value, given_value])
        return
    for number, row in enumerate(rows, fresh):
        if way == "literals":
            conn.execute(sql.SQL("INSERT INTO charts VALUES ({}, {}, {}, {})").format(number, *[row.decode()] * 3))
        else:
            form = results.Form(None, int(way == "binary"), 0)
            value: object = b"\x01" + row if way == "binary" else row.decode()
            text = f"INSERT INTO charts VALUES ({number}, $1, $2, $3) RETURNING doc"
            said = results.extended(conn.pgconn, text, [value] * 3, form)[-1]
            if said.sqlstate is not None:
                raise psycopg.errors.lookup(said.sqlstate)(said.message)


class Raw:
    """The text of a jsonb, that is sent in its binary form as it stands."""

    def __init__(self, text: bytes) -> None:
        self.text = text


class RawDumper(psycopg.adapt.Dumper):
    format = psycopg.pq.Format.BINARY
    oid = 3802

    def dump(self, obj: Raw) -> bytes:
        return b"\x01" + obj.text


def given(conn: psycopg.Connection[Any], statement: str) -> bytes:
    with conn.cursor().copy(statement.encode()) as copy:
        return b"".join(map(bytes, copy))
