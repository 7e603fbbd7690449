"""Views that compute over columns go with these when they are encrypted, and come back: every answer is the plain twin's."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psycopg
import pytest

from tests.harness.oracle import LeakOracle, files_of
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.integration.test_dependents import OBJECTS, refusals, same_as_twin
from tests.integration.test_encrypt import filled_site, rows_of

POLICY = """\
database: {database}
deployment: computed-test
tables:
  public.t:
    columns:
      ssn:  {type: text, indexes: [ssn], accept_leakage: test}
      name: {type: varchar(40)}
      born: {type: date, indexes: [born], accept_leakage: test}
"""
TABLE = """\
CREATE TABLE t (id int PRIMARY KEY, ssn text, name varchar(40), born date, city text, n numeric);
INSERT INTO t SELECT n, 'secret-' || n, 'Ann ' || n % 7, date '1980-01-01' + n, 'c' || n % 5, n / 4.0
  FROM generate_series(1, {rows}) n;
CREATE VIEW loud AS SELECT id, upper(ssn) AS "Loud", ssn, t.city FROM t;
CREATE VIEW initials WITH (security_barrier) AS SELECT p.id, left(p.name, 3) || p.city AS of FROM ONLY t AS p WHERE p.city < 'c3';
CREATE VIEW fifth AS SELECT id FROM t WHERE ssn = 'secret-5' OR name ~ '5$' AND id < 40;
CREATE VIEW counted AS SELECT city, count(*) AS n, max(lower(name)) AS last, min(born) AS first FROM t
  GROUP BY city ORDER BY city LIMIT 4;
CREATE VIEW pairs AS SELECT a.id, b.id AS other, a.name || b.name AS names FROM t a JOIN t b ON a.id = b.id + 1 WHERE b.n > 2;
CREATE VIEW louder AS SELECT id, "Loud" || '!' AS louder, city FROM loud WHERE id < 30;
CREATE VIEW quiet AS SELECT id, ssn FROM loud;
GRANT SELECT ON loud TO PUBLIC;
COMMENT ON VIEW loud IS 'as they shout';
COMMENT ON COLUMN loud."Loud" IS 'loud';
"""
READS = [
    "SELECT * FROM loud",
    'SELECT id FROM loud WHERE "Loud" = \'SECRET-7\'',
    "SELECT id FROM loud WHERE ssn = 'secret-7' AND city = 'c2'",
    "SELECT * FROM initials",
    "SELECT * FROM fifth",
    "SELECT * FROM counted",
    "SELECT * FROM pairs WHERE other < 20",
    "SELECT * FROM louder WHERE louder < 'SECRET-2'",
    "SELECT * FROM quiet WHERE ssn = 'secret-9'",
    "SELECT q.id FROM quiet q JOIN louder l ON l.id = q.id AND length(l.louder) = 9",
]
MADE = ["SELECT * FROM made", "SELECT id FROM made WHERE back = '7-terces'"]
OVER_VIEWS = ("louder", "quiet")
VIEWS = "SELECT viewname::text, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"


def watched(site: Site, engine_directory: Path) -> LeakOracle:
    """What finds values from now on; before, statements go to the server as they come."""
    logs, files = lambda: sorted(site.directory.glob("*.log")), lambda: files_of(engine_directory)
    oracle = LeakOracle(site.server, site.sealed, proxy_logs=logs, files=files)
    oracle.planted += ["secret-5", "SECRET-7", "Ann 3"]
    return oracle


def foreseen(site: Site) -> set[str]:
    """What observing says would become of READS, once all were seen."""
    until = time.monotonic() + 120
    while True:
        said = json.loads(site.cli("observe", "report", "--json"))["statements"]
        if len(said) >= len(READS):
            return {each["answer"] for each in said}
        assert time.monotonic() < until, said
        time.sleep(0.2)


def test_there_and_back(postgres_server: PostgresServer, tmp_path: Path, engine_directory: Path) -> None:
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLE, rows=60, settings=settings) as site:
        assert refusals(site) == ""
        objects, views = rows_of(site.sealed_dsn, OBJECTS), rows_of(site.sealed_dsn, VIEWS)
        with psycopg.connect(site.proxy_dsn, autocommit=True, prepare_threshold=0) as conn:
            before = [sorted(conn.execute(text.encode()).fetchall(), key=repr) for text in READS]
            assert foreseen(site) == {"split"}, "views are taken for what they will be"
            oracle = watched(site, engine_directory)
            site.cli("encrypt")
            after = [sorted(conn.execute(text.encode()).fetchall(), key=repr) for text in READS]
            assert after == before, "prepared before the switch"
        same_as_twin(site, READS)
        stored = str(rows_of(site.sealed_dsn, VIEWS))
        assert "'secret-5'" not in stored
        assert "'!'" not in stored
        shown = [(name, kind, acl, options, said) for name, kind, acl, options, said, *_ in objects]
        assert [row[:5] for row in rows_of(site.sealed_dsn, OBJECTS)] == shown
        for dsn in (site.proxy_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("CREATE VIEW made AS SELECT id, reverse(ssn) AS back, born - 5 AS before FROM t WHERE name ~ '4'")
        same_as_twin(site, MADE)
        oracle.assert_no_leak()
        for name in ("loud", "louder"):
            with psycopg.connect(site.sealed_dsn) as past, pytest.raises(psycopg.errors.UndefinedObject):
                past.execute(f"SELECT * FROM {name}".encode())
        back = ("decrypt", "public.t", "--reorder")
        told = refusals(site, *back)
        for name in OVER_VIEWS:
            assert f"view public.{name}" in told
        for dsn in (site.sealed_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("DROP VIEW louder, quiet")
        reads = [text for text in (*READS, *MADE) if not any(name in text for name in OVER_VIEWS)]
        assert "public.t.name too: decrypt that with it" in refusals(site, "decrypt", "public.t.ssn", "--reorder")
        assert refusals(site, *back) == ""
        site.cli(*back)
        same_as_twin(site, reads)
        for text in reads:
            assert sorted(rows_of(site.sealed_dsn, text), key=repr) == sorted(rows_of(site.plain_dsn, text), key=repr), text
        there = [row for row in rows_of(site.sealed_dsn, OBJECTS) if row[0] != "made"]
        assert there == [row for row in objects if row[0] not in OVER_VIEWS]
        again = rows_of(site.sealed_dsn, VIEWS)
        assert [row for row in again if row[0] not in ("counted", "made", "pairs")] == [
            row for row in views if row[0] not in ("counted", "pairs", *OVER_VIEWS)
        ]
        same_as_twin(site, ["UPDATE loud SET city = 'x' WHERE id = 3 RETURNING city"])
        site.cli("encrypt")
        same_as_twin(site, reads)


NAMED = """\
CREATE TABLE t (id int PRIMARY KEY, ssn text, name varchar(40), born date, city text, n numeric);
INSERT INTO t (id, ssn) VALUES (1, 'secret-1');
CREATE MATERIALIZED VIEW kept AS SELECT id, upper(ssn) AS loud FROM t;
CREATE VIEW checked AS SELECT id, city, upper(ssn) AS loud FROM t WHERE id > 0 WITH CHECK OPTION;
CREATE VIEW granted AS SELECT id, upper(ssn) AS loud FROM t;
GRANT SELECT (loud) ON granted TO PUBLIC;
CREATE VIEW whole AS SELECT p AS row_of FROM t p;
CREATE VIEW given AS SELECT id, ssn, city FROM t;
ALTER VIEW given ALTER ssn SET DEFAULT 'secret-none';
"""


def test_what_cannot_is_named_with_what_helps(postgres_server: PostgresServer, tmp_path: Path, engine_directory: Path) -> None:
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=NAMED, settings=settings) as site:
        told = refusals(site)
        for part in (
            "materialized view public.kept: ",
            'view public.whole: the row type "t" would hold protected columns',
            "view public.checked will compute, and WITH CHECK OPTION is not checked by that: ALTER VIEW public.checked RESET",
            "view public.granted will compute, so whoever reads it reads it as a whole: GRANT SELECT ON public.granted TO PUBLIC",
        ):
            assert part in told
        with psycopg.connect(site.sealed_dsn) as owner:
            owner.execute("ALTER VIEW public.checked RESET (check_option); DROP MATERIALIZED VIEW kept; DROP VIEW whole")
            owner.execute("REVOKE SELECT (loud) ON granted FROM PUBLIC; GRANT SELECT ON public.granted TO PUBLIC")
            owner.commit()
            assert "view public.given: " in (told := refusals(site)), told
            owner.execute("ALTER VIEW given ALTER ssn DROP DEFAULT")
            owner.commit()
        looked = site.cli("encrypt", "--dry-run")
        assert "view public.granted is converted with it: from then on the engine computes it" in looked


def test_without_an_engine(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLE, rows=5) as site:
        assert "view public.loud: " in (told := refusals(site))
        assert "compute.engine: embedded" in told
        refused = run_cli("encrypt", "-c", str(site.config), env=site.env)
        assert (refused.returncode, "nothing was changed" in refused.stderr) == (1, True)


COMPARED = """\
CREATE TABLE t (id int PRIMARY KEY, ssn text, name varchar(40), born date, city text, n numeric);
INSERT INTO t SELECT n, 's' || n % 6, 'Ann ' || n, date '1980-01-01' + n, 'c' || n % 5, n / 4.0
  FROM generate_series(1, {rows}) n;
CREATE VIEW same AS SELECT a.id, b.id AS other, upper(a.name) AS n FROM t a JOIN t b ON a.ssn = b.ssn;
CREATE VIEW among AS SELECT a.id, upper(a.name) AS n FROM t a WHERE a.ssn IN (SELECT ssn FROM t b WHERE b.id < 3);
"""


def test_what_compares_by_tags_does_not_come_back(postgres_server: PostgresServer, tmp_path: Path, engine_directory: Path) -> None:
    """In clear the server would compare what stands in the values where tags were. Columns in another order are not renamed."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=COMPARED, rows=24, settings=settings) as site:
        site.cli("encrypt")
        same_as_twin(site, ["SELECT * FROM same", "SELECT * FROM among", "SELECT p.a FROM t p (a)"])
        for renamed in ("SELECT p.e FROM t p (a, b, c, d, e)", "SELECT upper(p.b) FROM t p (a, b)", "SELECT p.b FROM t p (a, b)"):
            with psycopg.connect(site.proxy_dsn) as conn, pytest.raises(psycopg.errors.FeatureNotSupported, match="another order"):
                conn.execute(renamed.encode())
        back = ("decrypt", "public.t", "--reorder")
        told = refusals(site, *back)
        for name in ("same", "among"):
            assert f"view public.{name}: its stored query is one over sealed values" in told
        for dsn in (site.sealed_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("DROP VIEW same, among")
        assert refusals(site, *back) == ""
