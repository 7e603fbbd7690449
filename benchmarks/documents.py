"""Measure a FHIR Patient of 4 KB as a document with twelve sealed fields, as a whole sealed document, and in plain.

python -m benchmarks.documents [--rounds N]

One round runs every variant once, so what is compared has met the same machine. Times are of one client, statements prepared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.measures import cpu_seconds, family, machine, middle
from phiproxy.demo.postgres import EmbeddedPostgres
from tests.fhir import PATIENT_FIELDS, patient, spelled
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

POLICY = f"""\
database: {{database}}
deployment: benchmark
tables:
  public.fields:
    columns:
      doc:
        type: jsonb
        fields:
{PATIENT_FIELDS}        others: clear
  public.whole:
    columns:
      doc: {{type: jsonb, indexes: ["doc->>'birthDate'"], accept_leakage: "nobody in here exists"}}
"""
DDL = "".join(f"CREATE TABLE {table} (id serial PRIMARY KEY, doc jsonb);\n" for table in ("fields", "whole"))
VARIANTS = {"plain": ("plain", "fields"), "whole document": ("proxied", "whole"), "twelve fields": ("proxied", "fields")}
DOCUMENTS = 200
Connection = psycopg.Connection[tuple[object, ...]]


@contextmanager
def site() -> Iterator[Site]:
    """Give both databases, the protected one through a proxy, with some documents in each table."""
    with tempfile.TemporaryDirectory() as home, EmbeddedPostgres() as embedded:
        server = PostgresServer(embedded.host, embedded.port, embedded.superuser, embedded.password)
        with open_site(server, Path(home), policy=POLICY, ddl=DDL, serve=False) as own:
            # Straight to the server: nothing between the two is measured.
            own.config.write_text(own.config.read_text().replace(f":{own.tap.port}\n", f":{server.port}\n"))
            own.proxy.start()
            yield own


def insert(conn: Connection, table: str, seed: int) -> float:
    """Return the milliseconds of one INSERT."""
    document = Jsonb(patient(seed))
    begun = time.perf_counter()
    conn.execute(f"INSERT INTO {table} (doc) VALUES (%s)".encode(), [document], prepare=True)
    return 1000 * (time.perf_counter() - begun)


def select(conn: Connection, table: str, seed: int) -> float:
    """Return the milliseconds of one SELECT by the primary key, its document read."""
    begun = time.perf_counter()
    conn.execute(f"SELECT doc FROM {table} WHERE id = %s".encode(), [1 + seed % DOCUMENTS], prepare=True).fetchall()
    return 1000 * (time.perf_counter() - begun)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds: int = parser.parse_args().rounds
    with (
        site() as own,
        psycopg.connect(own.plain_dsn, autocommit=True) as plain,
        psycopg.connect(own.proxy_dsn, autocommit=True) as proxied,
    ):
        connections = {"plain": plain, "proxied": proxied}
        variants = {name: (connections[way], table) for name, (way, table) in VARIANTS.items()}
        for conn, table in variants.values():
            for seed in range(DOCUMENTS):
                insert(conn, table, seed)
        assert own.proxy.process is not None
        pids = family(own.proxy.process.pid)
        sys.stdout.write(f"a Patient of {len(spelled(patient(1)))} bytes, {rounds} rounds; median ms, and CPU of the proxy in µs\n")
        for what, run in {"insert": insert, "point select": select}.items():
            taken: dict[str, list[float]] = {name: [] for name in variants}
            used: dict[str, float] = dict.fromkeys(variants, 0.0)
            for seed in range(rounds):
                for name, (conn, table) in variants.items():
                    before = cpu_seconds(pids)
                    taken[name].append(run(conn, table, seed))
                    used[name] += cpu_seconds(pids) - before
            for name, times in taken.items():
                sys.stdout.write(f"{what:14} {name:16} {middle(times):8.2f} ms {1e6 * used[name] / rounds:8.0f} µs\n")
        for table in ("fields", "whole"):
            for where, dsn in (("plain", own.plain_dsn), ("protected", own.sealed_dsn)):
                with psycopg.connect(dsn) as conn:
                    row = conn.execute(f"SELECT avg(pg_column_size(doc))::int FROM {table}".encode()).fetchone()
                sys.stdout.write(f"{where} {table}: {row[0] if row else 0} bytes stored for a document\n")
    for name, value in machine().items():
        sys.stdout.write(f"{name}: {value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
