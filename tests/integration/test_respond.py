"""``phiproxy respond``: nothing is under what was compromised any more, all is as it was, and it is put down what was."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.integration.filled_site import Application, filled_site, findings, raw, slots
from tests.integration.job_at_work import done_despite, killed


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    with filled_site(postgres_server, tmp_path) as site:
        yield site


def data_keys(site: Site) -> dict[str, str]:
    listed = json.loads(site.cli("keys", "list", "--json"))
    return {f"{key['id']:08x}": key["state"] for root in listed for key in root["data_keys"]}


def in_use(site: Site) -> set[str]:
    columns = [("patients", "ssn"), ("patients", "note"), ("patients", "mrn"), ("visits", "mrn")]
    query = " UNION ".join(f"SELECT encode(substring({c}, 6, 4), 'hex') FROM {t} WHERE {c} IS NOT NULL" for t, c in columns)
    return {str(key) for (key,) in raw(site, query)}


def incident(site: Site) -> str:
    (path,) = site.directory.glob("incident-*.md")
    assert path.stat().st_mode & 0o077 == 0
    return path.read_text()


def test_a_data_key(site: Site) -> None:
    (key,) = {str(k) for (k,) in raw(site, "SELECT DISTINCT encode(substring(ssn, 6, 4), 'hex') FROM patients")}
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
    assert counted["public.patients.ssn"] >= 1500
    assert counted["public.patients.note"] == 1000
    assert "Persons that rows with such values are about: public.patients, by mrn: 500." in text
    assert "Not known: there is no audit log of reads." in text
    assert f"data key retired: data key {key}" in text
    assert slots(site, "c:public.patients.ssn") == [(0, "@", 1, "active")], "an index key was not under it"
    done = run_cli("respond", "--key", key, "--reason", "again", "-c", str(site.config), env=site.env)
    assert "no data key" in done.stderr


def test_a_local_kek_is_turned_over_first(site: Site) -> None:
    """Proxies that run must get the file before anything is wrapped under its new key."""
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
    first = run_cli(*arguments, "-c", str(site.config), env=site.env)
    assert first.returncode == 1
    assert "send each a SIGHUP, and run this again" in first.stderr
    assert raw(site, wraps) == [("1",)]
    assert site.proxy.process is not None
    site.proxy.process.send_signal(signal.SIGHUP)
    with Application(site) as application:
        kills = done_despite(site, [*arguments, "--rate", "2500"], killed, 3, random.Random(3), pause=(0.1, 0.8))
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
    assert "about: public.patients, by mrn: 500; public.visits_1, by id: 500; public.visits_2, by id: 1000." in text
    assert findings(site) == []
    assert "nothing to do" in site.cli("keys", "init")
    site.proxy.kill()
    site.proxy.start()
    with psycopg.connect(site.proxy_dsn) as conn:
        assert conn.execute("SELECT id FROM patients WHERE ssn = '900000042'").fetchall() == [(42,)]
