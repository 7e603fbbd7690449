"""``phiproxy reindex`` and ``keys rotate --index`` on tables in use: searches answer throughout, what is unique stays so."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.integration.filled_site import ATTACHED, ROWS, Application, filled_site, findings, indexes, raw, same, slots
from tests.integration.job_at_work import done_despite, killed, killed_at_each_step

pytestmark = pytest.mark.timeout(1200)  # each is of several jobs, one after the other


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    with filled_site(postgres_server, tmp_path) as site:
        yield site


def test_an_index_key_is_rotated_to_its_end_while_the_application_runs(site: Site) -> None:
    before = indexes(site)
    assert "13, 16" in before["patients_ssn_key"]
    (look,) = json.loads(site.cli("keys", "rotate", "--index", "public.patients.ssn", "--dry-run", "--json"))
    told = [(slot["slot"], slot["rows"], slot["indexes"], slot["dropped"]) for slot in look["slots"]]
    assert told == [(1, {"public.patients": ROWS}, ["patients_ssn_key"], [0])]
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "active")], "a look makes no slot"
    with site.server.connect(site.sealed) as conn:
        conn.execute("ALTER INDEX patients_ssn_key ALTER COLUMN 1 SET STATISTICS 300")
        conn.execute("ALTER TABLE patients CLUSTER ON patients_ssn_key")
        conn.execute("SET allow_in_place_tablespaces TO on")
        conn.execute("CREATE TABLESPACE reindexed LOCATION ''")
        conn.execute("ALTER INDEX patients_ssn_key SET TABLESPACE reindexed")
        conn.execute(sql.SQL("GRANT CREATE ON TABLESPACE reindexed TO {}").format(sql.Identifier(site.role)))
    with Application(site) as application:
        out = site.cli("keys", "rotate", "--index", "public.patients.ssn")
    application.settle(site)
    assert "is done" in out
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
    after = indexes(site)
    assert after.keys() == before.keys()
    assert after["patients_ssn_key"] == before["patients_ssn_key"].replace("13, 16", "29, 16"), "unique, by the same name"
    settings = (
        "SELECT a.attstattarget, i.indisclustered, t.spcname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_tablespace t ON t.oid = c.reltablespace"
        " WHERE i.indexrelid = 'patients_ssn_key'::regclass"
    )
    assert raw(site, settings) == [(300, True, "reindexed")]
    with site.server.connect(site.sealed) as conn:
        conn.execute("ALTER INDEX patients_ssn_key SET TABLESPACE pg_default")
        conn.execute("DROP TABLESPACE reindexed")
    lacking = "get_byte(ssn, 11) < 2 OR get_byte(substring(ssn, 29, 16), 0) <> 2"
    assert raw(site, f"SELECT count(*) FROM patients WHERE {lacking}") == [(0,)]
    (guard,) = raw(site, "SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint WHERE conname = 'phi_guard_ssn'")
    assert ">= 2" in str(guard[0])
    assert guard[1] is True
    assert findings(site, "index", "guard") == [("ok", "guards and tag indexes are there")]
    assert site.cli("ddl").startswith("-- nothing to do")
    # And once more: the registry has another generation.
    site.cli("keys", "rotate", "--index", "public.patients.ssn")
    assert slots(site, "c:public.patients.ssn")[2] == (2, "@", 3, "active")
    with psycopg.connect(site.proxy_dsn) as conn:
        assert conn.execute("SELECT id FROM patients WHERE ssn = '900000042'").fetchall() == [(42,)]
    a_domain_over_a_partitioned_table(site)
    who_is_not_the_owner_is_told_what_to_grant(site)


def a_domain_over_a_partitioned_table(site: Site) -> None:
    before, attached = indexes(site), raw(site, ATTACHED)
    with Application(site, 20_000) as application:
        site.cli("keys", "rotate", "--index", "public.visits.mrn", "--later")
        (note,) = [text for _, text in findings(site, "index") if "visits.mrn" in text]
        assert "phiproxy reindex public.visits.mrn" in note
        site.cli("reindex", "visits.mrn")
    application.settle(site)
    assert slots(site, "d:mrn") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
    assert indexes(site) == {name: text.replace("mrn, 13, 16", "mrn, 29, 16") for name, text in before.items()}
    assert raw(site, ATTACHED) == attached
    assert raw(site, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert findings(site, "index", "guard") == [("ok", "guards and tag indexes are there")]


def who_is_not_the_owner_is_told_what_to_grant(site: Site) -> None:
    with site.server.connect() as conn:
        conn.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
    before = slots(site, "c:public.patients.ssn")
    done = run_cli("keys", "rotate", "--index", "public.patients.ssn", "-c", str(site.config), env=site.env)
    assert done.returncode == 1
    assert f"GRANT {site.role} TO {site.service}" in done.stderr
    assert slots(site, "c:public.patients.ssn") == before, "nothing was begun"


def test_what_is_given_up_leaves_nothing_behind_nor_what_is_killed(site: Site) -> None:
    before = indexes(site)
    site.cli("keys", "rotate", "--index", "public.patients.ssn", "--later")
    with psycopg.connect(site.server.dsn(site.sealed)) as blocking:
        blocking.execute("SELECT FROM patients WHERE id = 7 FOR UPDATE")
        blocked = run_cli("reindex", "public.patients.ssn", "-c", str(site.config), env=site.env)
    assert blocked.returncode == 1
    assert "others keep 1 rows locked" in blocked.stderr
    (job,) = json.loads(site.cli("jobs", "--json"))
    assert job["state"] == "failed"
    assert any("has failed" in text and "phiproxy jobs resume" in text for _, text in findings(site, "job"))
    site.cli("jobs", "abort", str(job["id"]))
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "active"), (1, "@", 2, "dropped")]
    assert indexes(site) == before
    assert raw(site, "SELECT count(*) FROM pg_constraint WHERE conname ~ '^phi_next'") == [(0,)]
    site.cli("keys", "rotate", "--index", "public.patients.ssn")
    assert (
        slots(site, "c:public.patients.ssn")[2] == (2, "@", 2, "active") or slots(site, "c:public.patients.ssn")[2][3] == "active"
    )
    killed_at_any_moment(site)
    a_new_index_on_a_filled_column(site)


def killed_at_any_moment(site: Site) -> None:
    with Application(site) as application:
        rotating = ["keys", "rotate", "--index", "public.patients.ssn", "--rate", "400"]
        kills = done_despite(site, rotating, killed, 4, random.Random(6), pause=(0.1, 0.8))
    application.settle(site)
    assert kills >= 2
    if slots(site, "c:public.patients.ssn")[-1][3] != "active":
        pytest.fail(str(slots(site, "c:public.patients.ssn")))
    assert raw(site, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert not [name for name in indexes(site) if name.startswith(("phi_next_", "phi_old_"))]
    assert findings(site, "index", "guard") == [("ok", "guards and tag indexes are there")]


def a_new_index_on_a_filled_column(site: Site) -> None:
    policy = site.directory / "policy.yaml"
    policy.write_text(policy.read_text().replace("indexes: [ssn],", 'indexes: [ssn, "right(ssn, 4)"], accept_leakage: "a test",'))
    done = run_cli("keys", "init", "-c", str(site.config), env=site.env)
    assert "phiproxy reindex public.patients.ssn" in done.stderr
    site.proxy.kill()
    site.proxy.start()
    with psycopg.connect(site.proxy_dsn) as conn, pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute("SELECT count(*) FROM patients WHERE right(ssn, 4) = '0042'")
    with Application(site, 20_000) as application:
        site.cli("reindex", "public.patients.ssn")
    application.settle(site)
    with psycopg.connect(site.proxy_dsn) as conn:
        assert conn.execute("SELECT count(*) FROM patients WHERE right(ssn, 4) = '0042' AND id < 10000").fetchone() == (1,)
    assert findings(site, "index", "guard") == [("ok", "guards and tag indexes are there")]
    done = run_cli("reindex", "public.patients.ssn", "-c", str(site.config), env=site.env)
    assert "no index waits for values to be rewritten" in done.stderr


def test_killed_at_each_step(site: Site) -> None:
    """kill -9: searches answer after each, what is stored is as it was, and the same job goes on. Then ``recrypt``."""
    before = indexes(site)

    def as_before() -> None:
        same(site)
        with psycopg.connect(site.proxy_dsn) as conn:
            assert conn.execute("SELECT id FROM patients WHERE ssn = '900000042'").fetchall() == [(42,)]

    steps = killed_at_each_step(site, ["keys", "rotate", "--index", "public.patients.ssn"], between=as_before)
    assert {step.partition(" ")[0] for step in steps} >= {"filling", "searching", "dropping"}
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
    assert indexes(site) == {name: text.replace("ssn, 13, 16", "ssn, 29, 16") for name, text in before.items()}
    assert raw(site, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    site.cli("keys", "rotate")
    assert "sealing anew" in killed_at_each_step(site, ["recrypt"], between=as_before)
    keys = " UNION ".join(f"SELECT substring({column}, 6, 4) FROM patients" for column in ("mrn", "ssn", "note"))
    assert raw(site, f"SELECT count(*) FROM ({keys}) k (id) WHERE id IS NOT NULL") == [(2,)], "those that write"
    assert findings(site) == []
    as_before()
