"""``phiproxy respond``: nothing is under what was compromised any more, all is as it was, and it is put down what was."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.filled_site import PERSONS, Application, filled_site, findings, raw, same, slots
from tests.integration.filled_site import ROWS as FILLED
from tests.integration.job_at_work import done_despite, killed, killed_at_each_step
from tests.keys.providers.parts import SOFTHSM, Part, aws_credentials, kms, kms_part, vault_part
from tests.keys.providers.vault_server import VaultServer

pytestmark = pytest.mark.timeout(1200)  # each is of several jobs, one after the other


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    with filled_site(postgres_server, tmp_path) as site:
        yield site


def data_keys(site: Site) -> dict[str, str]:
    listed = json.loads(site.cli("keys", "list", "--json"))
    return {f"{key['id']:08x}": key["state"] for root in listed for key in root["data_keys"]}


KEY = "encode(substring({}, 6, 4), 'hex')"


def in_use(site: Site) -> set[str]:
    columns = [("patients", "ssn"), ("patients", "note"), ("patients", "mrn"), ("visits", "mrn")]
    query = " UNION ".join(f"SELECT {KEY.format(c)} FROM {t} WHERE {c} IS NOT NULL" for t, c in columns)
    return {str(key) for (key,) in raw(site, query)}


def incident(site: Site) -> str:
    (path,) = site.directory.glob("incident-*.md")
    assert path.stat().st_mode & 0o077 == 0
    return path.read_text()


def test_a_data_key_and_then_a_local_kek(site: Site) -> None:
    (key,) = {str(k) for (k,) in raw(site, "SELECT DISTINCT encode(substring(ssn, 6, 4), 'hex') FROM patients")}
    (look,) = json.loads(site.cli("respond", "--key", key, "--reason", "a test", "--dry-run", "--json"))
    assert [each["values"] for each in look["keys"]] == [{"public.patients.ssn": FILLED, "public.patients.note": 2 * PERSONS}]
    assert (look["rows"], look["subjects"]) == ({"public.patients": FILLED}, {"public.patients, by mrn": PERSONS})
    assert data_keys(site)[key] == "active"
    with Application(site) as application:
        out = site.cli("respond", "--key", key, "--reason", "a core dump {left} the building", "--report", str(site.directory))
    application.settle(site)
    assert "the incident file: " in out
    assert data_keys(site)[key] == "retired"
    assert key not in in_use(site)
    text = incident(site)
    assert "a core dump {left} the building" in text
    counted = {label: int(count) for label, count in re.findall(r"^\| (public\S+) \| (\d+) \|$", text, re.MULTILINE)}
    assert counted.keys() == {"public.patients.ssn", "public.patients.note"}
    assert counted["public.patients.ssn"] >= FILLED
    assert counted["public.patients.note"] == 2 * PERSONS
    assert f"Rows with such values: public.patients: {counted['public.patients.ssn']}." in text
    assert f"Persons that they are about: public.patients, by mrn: {PERSONS}." in text
    assert "Not known: there is no audit log of reads." in text
    assert f"data key retired: data key {key}" in text
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "active")], "an index key was not under it"
    done = run_cli("respond", "--key", key, "--reason", "again", "-c", str(site.config), env=site.env)
    assert "no data key" in done.stderr
    next(site.directory.glob("incident-*.md")).unlink()
    a_local_kek(site)


def a_local_kek(site: Site) -> None:
    """It is turned over first: proxies that run must get the file before anything is wrapped under its new key."""
    arguments = (
        "respond",
        "--kek",
        "local:kek.json",
        "--reason",
        "a backup of the key file was public",
        "--report",
        str(site.directory),
    )
    before, wraps = data_keys(site), "SELECT DISTINCT kek_version FROM phiproxy.root_wrap ORDER BY 1"
    (look,) = json.loads(site.cli(*arguments, "--dry-run", "--json"))
    assert {slot["identity"]: slot["slot"] for slot in look["slots"]} == {"c:public.patients.ssn": 1, "d:mrn": 1}
    assert {key["id"] for key in look["keys"]} == {key for key, state in before.items() if state != "retired"}
    first = run_cli(*arguments, "-c", str(site.config), env=site.env)
    assert first.returncode == 1
    assert "send each a SIGHUP, and run this again" in first.stderr
    assert raw(site, wraps) == [("1",)]
    assert site.proxy.process is not None
    site.proxy.process.send_signal(signal.SIGHUP)
    with Application(site, 20_000) as application:
        kills = done_despite(site, [*arguments, "--rate", "1000"], killed, 3, random.Random(3), pause=(0.1, 0.8))
    application.settle(site)
    assert kills >= 1
    assert raw(site, wraps) == [("2",)]
    after = data_keys(site)
    assert {after[key] for key in before} == {"retired"}
    assert in_use(site) <= {key for key, state in after.items() if state == "active"}
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
    assert slots(site, "d:mrn") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
    for table, column in (("patients", "ssn"), ("patients", "mrn"), ("visits", "mrn")):
        tags = f"SELECT count(*) FROM {table} WHERE substring({column}, 13, 16) <> decode(repeat('00', 16), 'hex')"
        assert raw(site, tags) == [(0,)], "no tag of an old index key is left"
    roots = raw(site, "SELECT purpose, generation, state FROM phiproxy.root_key WHERE scope <> 'r:registry' ORDER BY 1, 2")
    assert set(roots) == {("data", 1, "retired"), ("data", 2, "active"), ("index", 1, "retired"), ("index", 2, "active")}
    assert "c:public.patients.ssn: @" in (text := incident(site))
    about = f"public.patients, by mrn: {PERSONS}; public.visits_1, by id: {PERSONS}; public.visits_2, by id: {2 * PERSONS}."
    assert f"about: {about}" in text
    assert findings(site) == []
    assert "nothing to do" in site.cli("keys", "init")
    site.proxy.kill()
    site.proxy.start()
    with psycopg.connect(site.proxy_dsn) as conn:
        assert conn.execute("SELECT id FROM patients WHERE ssn = '900000042'").fetchall() == [(42,)]


def test_killed_at_each_step(site: Site) -> None:
    """kill -9: after each all is as it was, and the same job goes on; at its end nothing is under the KEK's old key."""
    arguments = ["respond", "--kek", "local:kek.json", "--reason", "a test", "--report", str(site.directory)]
    before = data_keys(site)
    run_cli(*arguments, "-c", str(site.config), env=site.env)  # the file is another one: proxies are to read it
    site.proxy.terminate()
    site.proxy.start()

    def as_before() -> None:
        same(site)
        with psycopg.connect(site.proxy_dsn) as conn:
            assert conn.execute("SELECT id FROM patients WHERE ssn = '900000042'").fetchall() == [(42,)]

    steps = killed_at_each_step(site, arguments, between=as_before)
    assert {step.partition(" ")[0] for step in steps} >= {"filling", "sealing", "searching", "clearing"}
    after = data_keys(site)
    assert {after[key] for key in before} == {"retired"}
    assert in_use(site) <= {key for key, state in after.items() if state == "active"}
    for identity in ("c:public.patients.ssn", "d:mrn"):
        assert slots(site, identity) == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
    assert raw(site, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert "a test" in incident(site)
    assert findings(site) == []
    as_before()


SMALL = """\
database: {database}
deployment: clinic-test
tables:
  public.patients:
    columns:
      ssn:  {type: text, indexes: [ssn], distinct: 100000000}
      note: {type: text}
"""
SMALL_DDL = "CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE, note text)"
ROWS = [(n, f"9{n:08}", f"note {n}") for n in range(1, 21)]


class Hsm:
    """A token of SoftHSM, by its own tools only: in this process its library may be at another one already."""

    def __init__(self, directory: Path) -> None:
        if SOFTHSM is None or not (shutil.which("softhsm2-util") and shutil.which("pkcs11-tool")):
            pytest.skip("no SoftHSM 2, or no pkcs11-tool, here (Debian: softhsm2, opensc)")
        (directory / "tokens").mkdir(parents=True)
        conf = directory / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.env = {"SOFTHSM2_CONF": str(conf), "PIN": "2468"}
        self._run("softhsm2-util", "--init-token", "--free", "--label", "clinic", "--pin", "2468", "--so-pin", "2468")

    def key(self, number: str) -> str:
        """Make a KEK in it, and return its URI."""
        tool = ("pkcs11-tool", "--module", str(SOFTHSM), "--token-label", "clinic", "--login", "--pin", "2468")
        self._run(*tool, "--keygen", "--key-type", "AES:32", "--label", "kek", "--id", number, "--sensitive")
        return f"pkcs11:token=clinic;object=kek;id=%{number}?module-path={SOFTHSM}&pin-value=env:PIN"

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self.env})


def test_keks_that_are_no_files(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Each is answered to the end: one that another follows, of another kind too, and one that is turned over where it lives."""
    hsm, vault = Hsm(tmp_path / "hsm"), VaultServer()
    with (
        open_site(postgres_server, tmp_path, policy=SMALL, ddl=SMALL_DDL) as site,
        running(vault),
        aws_credentials(),
        kms() as (endpoint, client),
    ):
        with site.server.connect() as conn:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
        site.env |= {**hsm.env, "TOKEN": "root"}
        with psycopg.connect(site.proxy_dsn) as conn, conn.cursor() as cursor:
            cursor.executemany("INSERT INTO patients VALUES (%s, %s, %s)", ROWS)
        at_vault, at_kms = vault_part(vault.address, "root"), kms_part(endpoint, client)

        def configured(old: str, new: str) -> None:
            """Have the proxy go by another KEK, which wraps beside the one before."""
            site.config.write_text(site.config.read_text().replace(f"kek: {old}", f'kek: "{new}"'))
            site.cli("keys", "rewrap", "--from", old.strip('"'))
            site.proxy.terminate()
            site.proxy.start()

        def answered(kek: str, wrapping: str) -> None:
            before = data_keys(site)
            arguments = ("respond", "--kek", kek, "--reason", "a test", "--report", str(site.directory))
            said = site.cli(*arguments)
            assert "is done" in said
            after = data_keys(site)
            assert {after[key] for key in before} == {"retired"}
            now = {key for (key,) in raw(site, f"SELECT DISTINCT {KEY.format('ssn')} FROM patients")}
            assert now <= after.keys() - before.keys()
            opening = "SELECT DISTINCT w.kek_uri FROM phiproxy.root_wrap w JOIN phiproxy.root_key r ON r.id = w.root_id"
            wraps = raw(site, f"{opening} WHERE r.state NOT IN ('retired', 'destroyed')")
            assert [str(uri).partition(":")[0] for (uri,) in wraps] == [wrapping]
            with psycopg.connect(site.proxy_dsn) as conn:
                assert conn.execute("SELECT * FROM patients ORDER BY id").fetchall() == ROWS
                assert conn.execute("SELECT id FROM patients WHERE ssn = '900000009'").fetchall() == [(9,)]

        configured("local:kek.json", at_vault.uri)
        answered("local:kek.json", "vault")
        refused = run_cli("respond", "--kek", at_vault.uri, "--reason", "x", "-c", str(site.config), env=site.env)
        assert "rotate this KEK where it lives" in refused.stderr
        asyncio.run(turned(at_vault))
        answered(at_vault.uri, "vault")
        configured(f'"{at_vault.uri}"', at_kms.uri)
        configured(f'"{at_kms.uri}"', hsm.key("01"))
        answered(at_kms.uri, "pkcs11")
        assert findings(site) == []


async def turned(part: Part) -> None:
    await part.turn_over()


@contextmanager
def running(vault: VaultServer) -> Iterator[None]:
    vault.start()
    try:
        yield
    finally:
        vault.stop()


def test_a_row_that_does_not_open_keeps_nothing_else_from_being_done(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Its index goes by the old key, and its data key is not retired, until it is put right and the job is resumed."""
    policy = SMALL + "  public.visits: {columns: {room: {type: text, indexes: [room], distinct: 100000}}}\n"
    ddl = SMALL_DDL + "; CREATE TABLE visits (id int PRIMARY KEY, room text)"
    with open_site(postgres_server, tmp_path, policy=policy, ddl=ddl) as site:
        with site.server.connect() as conn:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
        with psycopg.connect(site.proxy_dsn) as conn, conn.cursor() as cursor:
            cursor.executemany("INSERT INTO patients VALUES (%s, %s, %s)", ROWS)
            cursor.executemany("INSERT INTO visits VALUES (%s, %s)", [row[:2] for row in ROWS])
        with site.server.connect(site.sealed) as conn:
            conn.execute("UPDATE patients SET ssn = set_byte(ssn, 40, get_byte(ssn, 40) # 1) WHERE id IN (4, 5)")
        arguments = ("respond", "--kek", "local:kek.json", "--reason", "a test", "--report", str(site.directory))
        run_cli(*arguments, "-c", str(site.config), env=site.env)  # the file is another one: proxies are to read it
        site.proxy.terminate()
        site.proxy.start()
        before, roots = data_keys(site), "SELECT scope, state FROM phiproxy.root_key WHERE purpose = 'index' AND generation = 1"
        failed = run_cli(*arguments, "-c", str(site.config), env=site.env)
        assert (failed.returncode, "2 rows could not be done" in failed.stderr) == (1, True), failed.stderr
        assert "public.patients, id 4: stored value does not open under data key" in failed.stderr
        assert not [*site.directory.glob("incident-*.md")]
        assert slots(site, "c:public.visits.room") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
        assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "active"), (1, "@", 2, "building")]
        assert sorted(data_keys(site)[key] for key in before) == ["compromised", "retired"]
        assert set(raw(site, roots)) == {("t:public.patients", "active"), ("t:public.visits", "retired")}
        (old,) = (key for key in before if data_keys(site)[key] == "compromised")
        under = f"SELECT id FROM patients WHERE {old!r} IN ({KEY.format('ssn')}, {KEY.format('note')}) ORDER BY 1"
        assert raw(site, under) == [(4,), (5,)]
        with psycopg.connect(site.proxy_dsn) as conn:
            assert conn.execute("SELECT id FROM patients WHERE ssn = '900000009'").fetchall() == [(9,)]
            assert conn.execute("SELECT id FROM visits WHERE room = '900000009'").fetchall() == [(9,)]
        with site.server.connect(site.sealed) as conn:
            conn.execute("UPDATE patients SET ssn = NULL WHERE id IN (4, 5)")
        assert "is done" in site.cli("jobs", "resume", "1")
        assert {data_keys(site)[key] for key in before} == {"retired"}
        assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "dropped"), (1, "@", 2, "active")]
        assert "a test" in incident(site)
        assert {state for _, state in raw(site, roots)} == {"retired"}
        with psycopg.connect(site.proxy_dsn) as conn:
            assert conn.execute("SELECT id FROM patients WHERE ssn = '900000009'").fetchall() == [(9,)]
        assert findings(site) == []
