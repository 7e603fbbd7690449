"""Blind indexes of fields: another key, a new index, a compromised KEK, while an application searches and stores documents."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.harness.at_work import PAUSE
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until
from tests.integration.filled_site import Application, findings, indexes, raw, slots
from tests.integration.job_at_work import done_despite, killed

POLICY = """\
database: {database}
deployment: reindex-fields
domains:
  mrn: {type: text, indexes: [value], distinct: 1000000}
tables:
  public.charts:
    columns:
      mrn: {domain: mrn}
      doc:
        type: jsonb
        fields:
          "$.ssn":             {type: text, indexes: [value], distinct: 100000000}
          "$.mrn":             {domain: mrn}
          "$.seen[*].mrn":     {domain: mrn}
          "$.\\"it's 100%\\"": {type: text, id: odd, indexes: [value], distinct: 100000000}
          "$.note":            {type: text, pad: 64}
        others: clear
"""
DDL = "CREATE TABLE charts (id int PRIMARY KEY, mrn text, doc jsonb);"
ROWS = 400
SSN, ODD = "c:public.charts.doc$.ssn", "c:odd"
ALL = "SELECT id, mrn, doc FROM charts ORDER BY id"


@contextmanager
def site_of(server: PostgresServer, directory: Path) -> Iterator[Site]:
    """Twins with documents; at the end both hold the same, and nothing was sent upstream in clear."""
    with open_site(server, directory, policy=POLICY, ddl=DDL) as site:
        oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: [site.proxy.log_path])
        note = oracle.plant()
        with site.server.connect() as conn:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn) as conn, conn.cursor().copy("COPY charts FROM STDIN") as copy:
                copy.set_types(["int4", "text", "jsonb"])
                for n in range(1, ROWS + 1):
                    copy.write_row((n, f"M{n}", Jsonb(document(n, note))))
        yield site
        with psycopg.connect(site.plain_dsn) as plain, psycopg.connect(site.proxy_dsn) as proxied:
            assert proxied.execute(ALL).fetchall() == plain.execute(ALL).fetchall()
        oracle.assert_no_leak()


def document(n: int, note: str = "x") -> dict[str, object]:
    own: dict[str, object] = {"ssn": f"9{n:08}", "mrn": f"M{n % 100}", "seen": [{"mrn": f"M{n}"}, {"mrn": None}, {}], "ward": n % 7}
    return own | {"it's 100%": f"odd {n}", "note": note} if n % 3 else own | {"note": None}


class DocumentsApplication(Application):
    """Searches by fields and stores documents without end, through the proxy; what goes wrong is kept."""

    def _run(self, dsn: str, lane: int) -> None:
        number = lane
        try:
            with psycopg.connect(dsn, autocommit=True, prepare_threshold=1) as conn:
                while not self._stop.is_set():
                    number += 2
                    n = 1 + number % ROWS
                    rows = conn.execute("SELECT id FROM charts WHERE doc->>'ssn' = %s", (f"9{n:08}",)).fetchall()
                    self._expect(rows == [(n,)], f"a search for {n}: {rows}")
                    rows = conn.execute("SELECT id FROM charts WHERE doc->>'it''s 100%%' = %s", (f"odd {n}",)).fetchall()
                    self._expect(rows == ([(n,)] if n % 3 else []), f"the other search for {n}: {rows}")
                    rows = conn.execute("SELECT id FROM charts WHERE mrn = %s", (f"M{n}",)).fetchall()
                    self._expect(rows == [(n,)], f"a search by the column for {n}: {rows}")
                    fresh = 10_000 + number
                    conn.execute("INSERT INTO charts VALUES (%s, NULL, %s)", (fresh, Jsonb(document(fresh))))
                    self.new.append(fresh)
                    self.done += 1
                    self._stop.wait(PAUSE)
        except psycopg.Error as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def settle(self, site: Site) -> None:
        """It has done something, all was right, and the plain twin gets what it has written."""
        assert not self.errors, self.errors
        assert self.done > 5, self.done
        with psycopg.connect(site.plain_dsn) as conn:
            for fresh in self.new:
                conn.execute("INSERT INTO charts VALUES (%s, NULL, %s)", (fresh, Jsonb(document(fresh))))


def test_index_keys_are_rotated_to_their_end_while_the_application_runs(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with site_of(postgres_server, tmp_path) as site:
        before = indexes(site)
        with DocumentsApplication(site) as application:
            out = site.cli("keys", "rotate", "--index", "public.charts.doc$.ssn")
            assert "is done" in out
            site.cli("keys", "rotate", "--index", 'charts.doc$."it\'s 100%":@')
            site.cli("keys", "rotate", "--index", "charts.doc$.mrn", "--later")
            (said,) = [text for _, text in findings(site, "index") if "doc$.mrn" in text]
            assert "phiproxy reindex public.charts.doc$.mrn" in said
            done_despite(site, ["reindex", "charts.mrn"], killed, 2, random.Random(2))
            time.sleep(0.3)
        application.settle(site)
        for identity in (SSN, ODD, "d:mrn"):
            assert slots(site, identity) == [(0, "@", 1, "dropped"), (1, "@", 2, "active")], identity
        moved = {n: t.replace(", 2), 25, 32)", ", 2), 57, 32)").replace("mrn, 13, 16", "mrn, 29, 16") for n, t in before.items()}
        assert indexes(site) == moved
        assert raw(site, "SELECT count(*) FROM charts WHERE substring(doc->>'ssn', 28, 2) <> '02'") == [(0,)]
        assert findings(site, "index", "guard") == [("ok", "guards and tag indexes are there")]
        assert site.cli("ddl").startswith("-- nothing to do")


def test_a_new_index_on_a_field_of_stored_documents(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with site_of(postgres_server, tmp_path) as site:
        policy = tmp_path / "policy.yaml"
        ssn = '"$.ssn":             {type: text, indexes: [value'
        policy.write_text(policy.read_text().replace(ssn, ssn + ', "right(value, 4)"'))
        assert "slot made, building" in site.cli("keys", "init")
        site.proxy.terminate()
        site.proxy.start()
        with DocumentsApplication(site) as application:
            assert "is searched by slot 1" in site.cli("reindex", "charts.doc$.ssn:right(@,4)")
        application.settle(site)
        assert slots(site, SSN) == [(0, "@", 1, "active"), (1, "right(@,4)", 1, "active")]
        with psycopg.connect(site.proxy_dsn) as conn:
            conn.execute("SET enable_seqscan = off")
            query = "SELECT id FROM charts WHERE right(doc->>'ssn', 4) = '0042'"
            assert conn.execute(query.encode()).fetchall()[0] == (42,)
            plan = conn.execute(f"EXPLAIN {query}".encode()).fetchall()
        assert any("phi_tag_idx_charts_doc_ssn_1" in line for (line,) in plan), plan
        assert findings(site, "index", "guard") == [("ok", "guards and tag indexes are there")]
        assert site.cli("ddl").startswith("-- nothing to do")


def test_a_kek_that_somebody_has(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Nothing is under its keys any more: no leaf, and no tag."""
    with site_of(postgres_server, tmp_path) as site:
        keys = r"SELECT DISTINCT substring(m[1], 1, 8) FROM charts, regexp_matches(doc::text, 'phi1:f5500101..([0-9a-f]+)', 'g') m"
        tags = r"SELECT DISTINCT m[1] FROM charts, regexp_matches(doc::text, 'phi1:f5500101[0-9a-f]{14}01([0-9a-f]{32}):', 'g') m"
        before, tags_before = raw(site, keys), raw(site, tags)
        assert tags_before
        arguments = ("respond", "--kek", "local:kek.json", "--reason", "a backup was public", "--report", str(tmp_path))
        assert "send each a SIGHUP" not in site.cli(*arguments, check=False)
        assert site.proxy.process is not None
        site.proxy.process.send_signal(signal.SIGHUP)
        until(lambda: '"reloaded"' in site.proxy.log_path.read_text(), "the proxy did not read its files again")
        with DocumentsApplication(site) as application:
            done_despite(site, list(arguments), killed, 2, random.Random(3))
        application.settle(site)
        assert not set(raw(site, keys)) & set(before)
        whole = str(raw(site, "SELECT doc::text FROM charts"))
        assert not [tag for (tag,) in tags_before if str(tag) in whole], "also of what stands in arrays"
        for identity in (SSN, ODD, "d:mrn"):
            assert slots(site, identity) == [(0, "@", 1, "dropped"), (1, "@", 2, "active")], identity
        (report,) = tmp_path.glob("incident-*.md")
        assert re.search(r"\| public\.charts\.doc \| \d+ \|", report.read_text())
