"""PRIMARY KEY and UNIQUE over protected columns, of partitioned tables too, are constraints again behind the way back."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.integration.test_encrypt import filled_site, rows_of

TABLE = "  public.{}:\n    columns:\n      ssn: {{type: text, indexes: [ssn], accept_leakage: test}}\n"
POLICY = "database: {database}\ndeployment: keys-test\ntables:\n" + "".join(map(TABLE.format, ("parted", "whole")))
DDL = """\
CREATE TABLE parted (n int, region text, ssn text, CONSTRAINT "The key" PRIMARY KEY (region, ssn) INCLUDE (n),
  UNIQUE (ssn, region)) PARTITION BY LIST (region);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE parted_more PARTITION OF parted FOR VALUES IN ('b', 'c') PARTITION BY LIST (region);
CREATE TABLE parted_b PARTITION OF parted_more FOR VALUES IN ('b');
CREATE TABLE parted_c (region text NOT NULL, ssn text NOT NULL, n int);
ALTER TABLE parted_more ATTACH PARTITION parted_c FOR VALUES IN ('c');
COMMENT ON CONSTRAINT "The key" ON parted IS 'it''s the key; really';
CREATE TABLE whole (ssn text PRIMARY KEY, n int);
COMMENT ON CONSTRAINT whole_pkey ON whole IS 'one of each';
INSERT INTO parted SELECT n, substr('abc', n % 3 + 1, 1), 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO whole SELECT 'secret-' || n, n FROM generate_series(1, {rows}) n;
"""
CONSTRAINTS = """\
SELECT k.conname::text, k.conrelid::regclass::text, k.contype::text, pg_get_constraintdef(k.oid), k.coninhcount,
       obj_description(k.oid, 'pg_constraint'), i.indisvalid, obj_description(i.indexrelid, 'pg_class'),
       (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
  FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid
 WHERE k.connamespace = 'public'::regnamespace AND k.contype IN ('p', 'u') ORDER BY 2, 1"""
INDEXES = "SELECT relname::text FROM pg_class WHERE relkind IN ('i', 'I') AND relnamespace = 'public'::regnamespace ORDER BY 1"
ROWS = "SELECT n, region, ssn FROM parted ORDER BY n"


def test_they_are_what_they_were(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=DDL, rows=60) as site:
        site.cli("encrypt")
        assert rows_of(site.proxy_dsn, ROWS) == rows_of(site.plain_dsn, ROWS)
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("INSERT INTO parted VALUES (0, 'c', 'secret-5')")
        site.cli("decrypt", "public.parted", "public.whole", "--reorder")
        assert rows_of(site.sealed_dsn, CONSTRAINTS) == rows_of(site.plain_dsn, CONSTRAINTS)
        assert rows_of(site.sealed_dsn, INDEXES) == rows_of(site.plain_dsn, INDEXES)
        assert rows_of(site.proxy_dsn, ROWS) == rows_of(site.plain_dsn, ROWS)
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("INSERT INTO parted VALUES (0, 'c', 'secret-5')")
