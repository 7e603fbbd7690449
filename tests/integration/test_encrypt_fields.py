"""Documents in tables that are full: their fields are sealed while applications read and write them, and opened again."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.harness.at_work import PAUSE, AtWork
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import done_despite, killed
from tests.integration.test_encrypt import filled_site, rows_of, same_rows

POLICY = """\
database: {database}
deployment: encrypt-fields
domains:
  mrn: {type: text, indexes: [value], distinct: 1000000}
tables:
  public.charts:
    columns:
      mrn: {domain: mrn}
      doc:
        type: jsonb
        fields:
          "$.ssn":             {type: text, indexes: [value, "right(value, 4)"], distinct: 100000000, accept_leakage: test}
          "$.mrn":             {domain: mrn}
          "$.name.family":     {type: text, indexes: ["lower(value)"], accept_leakage: test}
          "$.history[*].note": {type: text, pad: 64}
          "$.age":             {type: int, indexes: [value], accept_leakage: test}
          "$.extra":           {type: jsonb}
        others: clear
      closed:
        type: jsonb
        fields: {"$.ssn": {type: text, indexes: [value], distinct: 100000000, accept_leakage: test}}
        others: sealed
        clear: ["$.ward"]
"""
TABLES = """\
CREATE TABLE charts (id int PRIMARY KEY, mrn text, doc jsonb NOT NULL, closed jsonb, plain jsonb);
COMMENT ON COLUMN charts.doc IS 'the chart';
CREATE INDEX charts_ward ON charts ((doc->>'ward'), id);
CREATE INDEX charts_parts ON charts USING gin (doc);
CREATE UNIQUE INDEX of_ssn ON charts ((doc->>'ssn'), id);
CREATE INDEX of_family ON charts (lower(doc->'name'->>'family'));
ALTER TABLE charts ADD CONSTRAINT charts_ward CHECK (doc->>'ward' <> 'doc');
CREATE VIEW wards AS SELECT id, doc->>'ward' AS ward FROM charts WHERE doc->>'ward' <> 'B0';
INSERT INTO charts
  SELECT n, 'secret-m' || n, jsonb_build_object('ssn', 'secret-' || n, 'mrn', 'secret-m' || n, 'ward', 'B' || n % 7, 'age', n % 90,
    'name', jsonb_build_object('family', 'Secret' || n % 50, 'given', jsonb_build_array('Ada', 1.50)),
    'history', jsonb_build_array(jsonb_build_object('note', 'secret note ' || n, 'on', '2020'), NULL), 'extra', NULL),
    CASE WHEN n % 3 > 0 THEN jsonb_build_object('ssn', 'secret-' || n, 'n', jsonb_build_array(n, NULL, 'secret'), 'ward', 'W') END
    FROM generate_series(1, {rows}) n;
INSERT INTO charts VALUES (0, NULL, 'null', '{}'), (-1, NULL, '{}', 'null'), (-2, NULL, '{"ssn": null, "name": null}', NULL);
"""
ALL = "SELECT id, mrn, doc, doc::text, closed::text, plain FROM charts ORDER BY id"
SEARCHES = (
    "SELECT id FROM charts WHERE doc->>'ssn' = 'secret-7'",
    "SELECT count(*) FROM charts WHERE lower(doc #>> '{name,family}') = 'secret3'",
    "SELECT count(*) FROM charts WHERE right(doc->>'ssn', 4) = 't-77'",
    "SELECT count(*) FROM charts WHERE (doc->>'age')::int = 34",
    "SELECT count(*) FROM charts WHERE doc->>'ward' = 'B3'",
    "SELECT * FROM wards ORDER BY id",
    "SELECT count(*) FROM charts WHERE mrn = doc->>'mrn'",
    'SELECT count(*) FROM charts WHERE doc @> \'{"ward": "B3", "age": 34}\'',
    "SELECT id FROM charts WHERE closed->>'ssn' = 'secret-8'",
)


@contextmanager
def site_of(server: PostgresServer, directory: Path, rows: int = 500) -> Iterator[Site]:
    with filled_site(server, directory, policy=POLICY, ddl=TABLES, rows=rows) as site:
        yield site


def same(site: Site) -> None:
    """Both twins hold the same, the searches have the same answers, and what reads only what is in clear is there."""
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'charts' AND indexname LIKE 'charts%' ORDER BY 1"
    assert rows_of(site.server.dsn(site.sealed), indexes) == rows_of(site.server.dsn(site.plain), indexes)
    checks = "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conname = 'charts_ward'"
    assert rows_of(site.server.dsn(site.sealed), checks) == rows_of(site.server.dsn(site.plain), checks)
    same_rows(site, (ALL, *SEARCHES))


def stored(site: Site) -> str:
    """Return all of the documents as the server has them."""
    return json.dumps(rows_of(site.server.dsn(site.sealed), "SELECT doc, closed FROM charts ORDER BY id"))


def test_fields_of_a_filled_table_there_and_back(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with site_of(postgres_server, tmp_path) as site:
        assert "statements over it are observed" in site.cli("check", check=False)
        same(site)
        looked = site.cli("encrypt", "--dry-run")
        assert "public.charts.doc (jsonb) becomes jsonb with a guard, NOT NULL" in looked
        assert "public.charts.doc$.history[*].note is sealed in it" in looked
        assert "unique index of_ssn on the tags of doc$.ssn, in place of that on plain values" in looked
        assert "what keeps it" not in looked
        site.cli("encrypt")
        same(site)
        assert "secret" not in stored(site).lower()
        assert '"ward": "B1"' in stored(site)
        assert "guards and tag indexes are there" in site.cli("check", check=False)
        assert "nothing to do" in site.cli("encrypt")
        assert site.cli("ddl").startswith("-- nothing to do")
        assert site.cli("explain", SEARCHES[0]).startswith("rewritten")
        comment = "SELECT col_description('charts'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'charts'::regclass"
        assert rows_of(site.server.dsn(site.sealed), f"{comment} AND attname = 'doc'") == [("the chart",)]
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO charts (id, doc) VALUES (9000, %s)", [Jsonb({"ssn": "secret-9000", "age": 7})])
            assert conn.execute("SELECT doc FROM charts WHERE doc->>'ssn' = 'secret-9000'").fetchall()[0][0]["age"] == 7
            with pytest.raises(psycopg.errors.NotNullViolation):
                conn.execute("INSERT INTO charts (id) VALUES (9001)")
            conn.execute("DELETE FROM charts WHERE id = 9000")
        looked = site.cli("decrypt", "charts", "--dry-run", check=False)
        assert "public.charts.doc$.ssn is opened in it" in looked
        assert "will stand last in public.charts" in looked
        site.cli("decrypt", "charts", "--reorder")
        same(site)
        own = "SELECT indexdef FROM pg_indexes WHERE indexname IN ('of_ssn', 'of_family') ORDER BY 1"
        assert rows_of(site.server.dsn(site.sealed), own) == rows_of(site.server.dsn(site.plain), own)
        assert "secret-77" in stored(site)
        assert "phi1:" not in stored(site)
        assert rows_of(site.server.dsn(site.sealed), "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'phi%'") == [(0,)]
        assert "statements over it are observed" in site.cli("check", check=False)
        site.cli("encrypt")
        same(site)


def test_a_document_that_is_not_as_the_policy_says_is_named(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """A job that is given up for it leaves the documents as they were; one that goes on when it was put right ends."""
    with site_of(postgres_server, tmp_path, rows=20) as site:
        past = site.server.dsn(site.sealed)
        with psycopg.connect(past, autocommit=True) as conn:
            conn.execute("""UPDATE charts SET doc = '{"ssn": 4711, "ward": "x"}' WHERE id = 3""")
            conn.execute("""UPDATE charts SET doc = '{"name": "Smith"}' WHERE id = 4""")
        why = run_cli("encrypt", "-c", str(site.config), env=site.env).stderr
        listed = json.loads(site.cli("jobs", "--json"))
        assert listed[-1]["state"] == "failed"
        assert "id 3: public.charts.doc: $.ssn: a JSON number is no value of type text" in why, why
        assert "id 4: public.charts.doc: $.name is a string, and a field is listed in an object there" in why
        assert "4711" not in why
        assert "Smith" not in why
        site.cli("jobs", "abort", str(listed[-1]["id"]))
        columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'charts'::regclass AND attnum > 0 AND NOT attisdropped"
        assert rows_of(past, columns) == [("id",), ("mrn",), ("doc",), ("closed",), ("plain",)], "as they were"
        site.cli("encrypt", check=False)
        listed = json.loads(site.cli("jobs", "--json"))
        with psycopg.connect(past, autocommit=True) as conn:
            conn.execute("""UPDATE charts SET doc = '{"ssn": "secret-4711"}' WHERE id IN (3, 4)""")
        with psycopg.connect(site.plain_dsn, autocommit=True) as conn:
            conn.execute("""UPDATE charts SET doc = '{"ssn": "secret-4711"}' WHERE id IN (3, 4)""")
        site.cli("jobs", "resume", str(listed[-1]["id"]))
        same(site)
        assert "secret" not in stored(site).lower()


class Writers(AtWork):
    """Applications that change documents, in the plain twin too; each row is changed by one of them only."""

    patience = None

    def __init__(self, site: Site, rows: int) -> None:
        self._site, self._rows = site, rows
        self.failures: list[str] = []
        self.done = 0
        super().__init__(*(partial(self._through, n) for n in range(2)))

    def _through(self, number: int) -> None:
        chance = random.Random(number)
        with (
            psycopg.connect(self._site.proxy_dsn, autocommit=True, prepare_threshold=1) as conn,
            psycopg.connect(self._site.plain_dsn, autocommit=True) as twin,
        ):
            while not self._stop.is_set():
                row = chance.randrange(1, self._rows // 2) * 2 + number
                document = {"ssn": f"secret-{row}-{chance.randrange(10**6)}", "ward": "new", "name": {"family": f"Secret{row}"}}
                try:
                    for each in (conn, twin):
                        each.execute("UPDATE charts SET doc = %s WHERE id = %s", (Jsonb(document), row))
                    shown = conn.execute("SELECT doc, doc->>'ward' FROM charts WHERE id = %s", (row,)).fetchall()
                    searched = conn.execute("SELECT id FROM charts WHERE doc->>'ssn' = %s", (document["ssn"],)).fetchall()
                except psycopg.Error as error:
                    self.failures.append(f"{error.sqlstate}: {error}")
                    return
                if shown != [(document, "new")] or searched != [(row,)]:
                    self.failures.append(f"{row}: {shown} {searched}")
                self.done += 1
                self._stop.wait(PAUSE)


def test_a_job_that_is_killed_again_and_again_beside_writers(postgres_server: PostgresServer, tmp_path: Path) -> None:
    rows = 500
    with site_of(postgres_server, tmp_path, rows=rows) as site:
        with Writers(site, rows) as writers:
            done_despite(site, ["encrypt"], killed, 3, random.Random(1))
            at_the_switch = writers.done
            until(lambda: writers.done > at_the_switch, "the writers have not gone on")
        assert not writers.failures, writers.failures
        same(site)
        assert "secret" not in stored(site).lower()


def test_statements_over_documents_in_clear_are_observed(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with site_of(postgres_server, tmp_path, rows=5) as site:
        statements = {
            "SELECT id FROM charts WHERE doc->>'ssn' = 'secret-3'": "works",
            "SELECT doc->>'ward' FROM charts WHERE doc @> '{\"ward\": \"B3\"}'": "works",
            "SELECT id FROM charts WHERE doc #>> '{name,family}' = 'Secret3'": "refused",
            "SELECT id FROM charts WHERE doc->>'extra' LIKE 'secret%'": "refused",
        }
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())
        end = time.monotonic() + 240
        while len(observed := json.loads(site.cli("observe", "report", "--json"))["statements"]) < len(statements):
            assert time.monotonic() < end, observed
            time.sleep(0.5)
        assert sorted(each["answer"] for each in observed) == sorted(statements.values()), observed
        assert "secret" not in json.dumps(observed).lower().replace("secret%", "")
        log = tmp_path / "statements.txt"
        log.write_text("".join(f"LOG:  statement: {statement}\n" for statement in statements))
        said = site.cli("observe", "--from", str(log))
        assert "public.charts.doc$.name.family:  indexes: [value]" in said, said
