"""Tables that a publication sends to another cluster are encrypted and decrypted: the subscription goes on, with what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from phiproxy.demo.postgres import EmbeddedPostgres
from tests.harness.mortal_server import MortalServer, mortal_server
from tests.harness.site import Site
from tests.harness.waiting import until
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
            sent = arrived(site, copy, published, 5000)
            assert not [ssn for ssn in sent if ssn is not None and not str(ssn).startswith("\\xf55001")]
            if "ssn" in note:
                looked = site.cli("decrypt", "public.patients", "--reorder", "--dry-run")
                assert "publication p will send plain values: its subscribers need " in looked
                assert " back in the original type then" in looked
                site.cli("decrypt", "public.patients", "--reorder")
                assert arrived(site, copy, published, 5001) == ["secret-new-5001", "secret-5001"]
        finally:
            copy.execute("DROP SUBSCRIPTION s")
            copy.execute("DROP TABLE patients")


def arrived(site: Site, copy: psycopg.Connection[tuple[object, ...]], published: str, number: int) -> list[object]:
    """Have the application write; returns what the subscriber has of the protected column, when that is what the server has."""
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        new, name = f"secret-new-{number}", f"new name {number}"
        conn.execute("UPDATE patients SET ssn = %s, name = %s WHERE id = 7", (new, name))
        conn.execute("INSERT INTO patients (id, ssn, name) VALUES (%s, %s, 'last')", (number, f"secret-{number}"))
    sent = f"SELECT name, ssn FROM patients WHERE id IN (7, {number}) ORDER BY id"
    stored = rows_of(site.server.dsn(site.sealed), sent.replace(" ssn ", " ssn::text "))
    names = [(name if "ssn)" not in published else None, ssn if "name" not in published else None) for name, ssn in stored]
    until(lambda: copy.execute(sent.encode()).fetchall() == names, "the subscriber has what was written", 240)
    assert copy.execute("SELECT count(*) FROM patients").fetchone() == (ROWS + number - 4999,)
    return [ssn for _, ssn in names]
