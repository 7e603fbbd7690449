"""Tables that a publication sends to another cluster are encrypted: the subscription goes on, and gets what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from phiproxy.demo.postgres import EmbeddedPostgres
from tests.harness.mortal_server import MortalServer, mortal_server
from tests.integration.test_encrypt import filled_site, rows_of

ROWS = 1000
TABLE = "CREATE TABLE patients (id int PRIMARY KEY, ssn text, name text, born date, score numeric(6,2), city text{more})"


@dataclass
class Clusters:
    publisher: MortalServer
    subscriber: EmbeddedPostgres


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    with mortal_server({"wal_level": "logical"}) as publisher, EmbeddedPostgres() as subscriber:
        yield Clusters(publisher, subscriber)


@pytest.mark.parametrize(
    ("published", "note"),
    [
        ("patients (id, name)", ""),
        ("patients (id, ssn)", "publication p will send envelopes: its subscribers need ssn as bytea, or text, then"),
        ("patients", "publication p sends every column: its subscribers need phi_new_born, phi_new_score, phi_new_ssn before"),
    ],
)
def test_a_subscription_goes_on(clusters: Clusters, tmp_path: Path, published: str, note: str) -> None:
    publisher, subscriber = clusters.publisher.server, clusters.subscriber
    whole = published == "patients"
    with filled_site(publisher, tmp_path, rows=ROWS) as site, psycopg.connect(subscriber.dsn(), autocommit=True) as copy:
        with publisher.connect(site.sealed) as conn:
            database, role = sql.Identifier(site.sealed), sql.Identifier(site.role)
            conn.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, role))
            conn.execute(sql.SQL("SET ROLE {}").format(role))
            conn.execute(f"CREATE PUBLICATION p FOR TABLE {published}".encode())
        # A DBA has read the notes.
        more = ", phi_new_ssn bytea, phi_new_born bytea, phi_new_score bytea" if whole else ""
        copy.execute(TABLE.replace("{more}", more).encode())
        address = f"host={publisher.host} port={publisher.port} user=postgres password={publisher.password} dbname={site.sealed}"
        copy.execute(f"CREATE SUBSCRIPTION s CONNECTION '{address}' PUBLICATION p".encode())
        try:
            looked = site.cli("encrypt", "--dry-run")
            assert note in looked
            assert ("publication" in looked) == bool(note)
            held = site.cli("encrypt").partition("plaintext of before is also in:")[2]
            assert "replication slot s: WAL that it holds back" in held
            assert "WAL and its archive, until they are recycled; base backups, dumps, and server logs of before" in held
            if whole:
                bytea = "ALTER TABLE patients ALTER born TYPE bytea USING NULL, ALTER score TYPE bytea USING NULL"
                copy.execute(bytea.encode())
            with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
                conn.execute("UPDATE patients SET ssn = 'secret-new', name = 'new name' WHERE id = 7")
                conn.execute("INSERT INTO patients (id, ssn, name) VALUES (5000, 'secret-5000', 'last')")
            sent = "SELECT name, ssn FROM patients WHERE id IN (7, 5000) ORDER BY id"
            expected = "SELECT name, ssn::text FROM patients WHERE id IN (7, 5000) ORDER BY id"
            stored = rows_of(publisher.dsn(site.sealed), expected)
            names = [(name if "ssn)" not in published else None, ssn if "name" not in published else None) for name, ssn in stored]
            end = time.monotonic() + 240
            while (there := copy.execute(sent.encode()).fetchall()) != names and time.monotonic() < end:
                time.sleep(0.1)
            assert there == names
            assert copy.execute("SELECT count(*) FROM patients").fetchone() == (ROWS + 1,)
            assert not [ssn for _, ssn in there if ssn is not None and not str(ssn).startswith("\\xf55001")]
        finally:
            copy.execute("DROP SUBSCRIPTION s")
            copy.execute("DROP TABLE patients")
