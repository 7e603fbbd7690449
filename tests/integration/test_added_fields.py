"""Fields that are added to documents that hold values, and let go again, while applications read and write them."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import done_despite, killed
from tests.integration.test_encrypt import filled_site, rows_of, same_rows
from tests.integration.test_encrypt_fields import Writers

POLICY = """\
database: {database}
deployment: added-fields
tables:
  public.charts:
    columns:
      doc:
        type: jsonb
        fields:
          "$.ssn": {type: text, indexes: [value], distinct: 100000000, accept_leakage: test}
        others: clear
      closed:
        type: jsonb
        fields: {"$.ssn": {type: text, indexes: [value], distinct: 100000000, accept_leakage: test}}
        others: sealed
        clear: ["$.ward"]
"""
ADDED = """\
          "$.name.family":     {type: text, indexes: ["lower(value)"], accept_leakage: test}
          "$.history[*].note": {type: text, pad: 64}
"""
TABLES = """\
CREATE TABLE charts (id int PRIMARY KEY, doc jsonb NOT NULL, closed jsonb);
COMMENT ON COLUMN charts.doc IS 'the chart';
CREATE INDEX charts_ward ON charts ((doc->>'ward'), id);
CREATE INDEX of_family ON charts (lower(doc->'name'->>'family'), id);
CREATE INDEX of_ssn ON charts ((doc->>'ssn'));
ALTER TABLE charts ADD CONSTRAINT charts_ward CHECK (doc->>'ward' <> 'doc');
INSERT INTO charts
  SELECT n, jsonb_build_object('ssn', 'secret-' || n, 'ward', 'B' || n % 7,
    'name', jsonb_build_object('family', 'Secret' || n % 50, 'given', jsonb_build_array('Ada', 1.50)),
    'history', jsonb_build_array(jsonb_build_object('note', 'secret note ' || n, 'on', '2020'), NULL)),
    CASE WHEN n % 3 > 0 THEN jsonb_build_object('ssn', 'secret-' || n, 'n', jsonb_build_array(n, NULL, 'secret'), 'ward', 'W') END
    FROM generate_series(1, {rows}) n;
INSERT INTO charts VALUES (0, 'null', '{}'), (-1, '{}', 'null'), (-2, '{"ssn": null, "name": null}', NULL);
"""
ROWS = 200
ALL = "SELECT id, doc, doc::text, closed::text FROM charts ORDER BY id"
SEARCHES = (
    "SELECT id FROM charts WHERE doc->>'ssn' = 'secret-7'",
    "SELECT count(*) FROM charts WHERE lower(doc #>> '{name,family}') = 'secret3'",
    "SELECT count(*) FROM charts WHERE doc->>'ward' = 'B3'",
    "SELECT doc->'history' FROM charts WHERE id = 3",
    "SELECT * FROM shown ORDER BY id",
)
OWN = "SELECT indexdef FROM pg_indexes WHERE indexname IN ('of_ssn', 'of_family') ORDER BY 1"
IN_CLEAR = "public.charts.doc$.name.family is in clear: statements over it are observed"


@contextmanager
def site_of(server: PostgresServer, directory: Path, rows: int = ROWS) -> Iterator[Site]:
    """A site whose documents are sealed, by a first policy, and hold values of fields that are listed later."""
    with filled_site(server, directory, policy=POLICY, ddl=TABLES, rows=rows) as site:
        site.cli("encrypt")
        view = "CREATE VIEW shown AS SELECT id, doc->>'ssn' AS ssn, doc->'name' AS name FROM charts WHERE doc->>'ward' <> 'B0'"
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(view)
        yield site


def listed(site: Site, more: str) -> None:
    """List more fields, as an operator does: register them, and have the proxy read its policy again."""
    path = site.directory / "policy.yaml"
    path.write_text(path.read_text().replace(ADDED, "").replace("        others: clear\n", f"{more}        others: clear\n", 1))
    site.cli("keys", "init")
    log = site.proxy.log_path
    reloaded = log.read_text().count('"reloaded"')
    assert site.proxy.process is not None
    site.proxy.process.send_signal(signal.SIGHUP)
    until(lambda: log.read_text().count('"reloaded"') > reloaded, "the proxy did not read its policy again")


def same(site: Site) -> None:
    same_rows(site, (ALL, *SEARCHES))


def stored(site: Site) -> str:
    return json.dumps(rows_of(site.server.dsn(site.sealed), "SELECT doc, closed FROM charts ORDER BY id")).lower()


def test_fields_are_added_to_documents_and_let_go_again(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with site_of(postgres_server, tmp_path) as site:
        assert "secret note 7" in stored(site)
        assert "secret-7" not in stored(site)
        listed(site, ADDED)
        done = run_cli("check", "-c", str(site.config), env=site.env, check=False)
        said = done.stdout
        assert IN_CLEAR in said, done.stderr
        assert "guards and tag indexes are there" in said
        assert "has no valid guard" not in said
        assert "nothing to do" in site.cli("ddl")
        same(site)
        looked = site.cli("encrypt", "--dry-run")
        assert "public.charts.doc$.name.family is sealed in the documents of public.charts.doc" in looked
        assert "doc$.ssn is sealed in it" not in looked
        assert "what keeps it" not in looked
        with Writers(site, ROWS) as writers:
            done_despite(site, ["encrypt"], killed, 1, random.Random(1))
            at_the_switch = writers.done
            until(lambda: writers.done > at_the_switch, "the writers have not gone on")
        assert not writers.failures, writers.failures
        same(site)
        assert "secret" not in stored(site)
        said = site.cli("check", check=False)
        assert "guards and tag indexes are there" in said, said
        assert "is in clear:" not in said
        assert "nothing to do" in site.cli("encrypt")
        assert site.cli("ddl").startswith("-- nothing to do")
        assert site.cli("explain", SEARCHES[1]).startswith("rewritten")
        past = site.server.dsn(site.sealed)
        with psycopg.connect(past, autocommit=True) as conn:
            for plain in ('{"name": {"family": "x"}}', '{"history": [{"note": "x"}]}', '{"history": [{"note": 5}]}'):
                with pytest.raises(psycopg.errors.CheckViolation):
                    conn.execute("UPDATE charts SET doc = %s WHERE id = 1", (plain,))
        comment = "SELECT col_description('charts'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'charts'::regclass"
        assert rows_of(past, f"{comment} AND attname = 'doc'") == [("the chart",)]

        looked = site.cli("decrypt", "charts.doc$.history[*].note", "--dry-run")
        assert "public.charts.doc$.history[*].note is opened in the documents of public.charts.doc" in looked
        site.cli("decrypt", "charts.doc$.history[*].note")
        same(site)
        assert "secret note" in stored(site)
        assert "secret-7" not in stored(site)
        assert "secret7" not in stored(site)
        assert "$.history[*].note is in clear" in site.cli("check", check=False)
        listed(site, ADDED.splitlines(keepends=True)[0])
        assert "is in clear:" not in site.cli("check", check=False)
        site.cli("decrypt", "charts.doc$.name.family")
        same(site)
        here = rows_of(site.server.dsn(site.sealed), OWN)
        assert here[0] == rows_of(site.server.dsn(site.plain), OWN)[0]
        assert "split_part" in str(here[1])


def test_documents_that_are_not_as_the_new_field_says_are_named(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with site_of(postgres_server, tmp_path, rows=20) as site:
        for dsn in (site.proxy_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("UPDATE charts SET doc = %s WHERE id = 3", (Jsonb({"ssn": "secret-3", "name": "Smith"}),))
        listed(site, ADDED)
        why = run_cli("encrypt", "-c", str(site.config), env=site.env).stderr
        assert "id 3: public.charts.doc: $.name is a string, and a field is listed in an object there" in why, why
        assert "Smith" not in why
        same(site)
        number = json.loads(site.cli("jobs", "--json"))[-1]["id"]
        site.cli("jobs", "abort", str(number))
        columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'charts'::regclass AND attnum > 0 AND NOT attisdropped"
        assert set(rows_of(site.server.dsn(site.sealed), columns)) == {("id",), ("doc",), ("closed",)}
        same(site)
        for dsn in (site.proxy_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("DELETE FROM charts WHERE id = 3")
        site.cli("encrypt", "charts.doc$.name.family")
        same(site)
        path = site.directory / "policy.yaml"
        listed_before = path.read_text()
        path.write_text(listed_before.replace(ADDED, ""))
        said = run_cli("check", "-c", str(site.config), env=site.env).stdout
        assert "public.charts.doc$.name.family is registered as protected, and the policy does not list it" in said, said
        path.write_text(listed_before)
        for names, why in (
            (["charts.doc$.ssn", "charts.doc$.name.family", "charts.doc$.history[*].note"], "these are all fields of"),
            (["charts.doc$.ssn", "charts.closed"], "name only one kind"),
        ):
            assert why in run_cli("decrypt", *names, "-c", str(site.config), env=site.env).stderr
