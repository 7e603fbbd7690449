"""``phiproxy keys`` and ``phiproxy open`` on a real database."""

import asyncio
import json
import stat
import time
from contextlib import closing
from pathlib import Path
from threading import Timer

import psycopg
import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.crypto.seal import ColumnSpec, draw_record, make_sealer
from phiproxy.errors import WriteKeyWant
from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import unlock
from phiproxy.keys.key_service import KeyService
from phiproxy.keys.registry import Registry
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.net.service_login import service_pool
from phiproxy.policy.load import load_settings
from phiproxy.policy.setting_values import read_secret
from tests.commands.conftest import Clinic
from tests.harness.waiting import until


def test_init_twice(clinic: Clinic) -> None:
    out = clinic.ok("keys", "init")
    assert "KEK file" in out
    kek = clinic.directory / "kek.json"
    assert stat.S_IMODE(kek.stat().st_mode) == 0o600
    before = kek.read_bytes(), clinic.sql("SELECT epoch FROM phiproxy.meta")
    assert clinic.ok("keys", "init") == "nothing to do: the registry is as the policy needs it\n"
    assert (kek.read_bytes(), clinic.sql("SELECT epoch FROM phiproxy.meta")) == before
    assert clinic.sql("SELECT identity FROM phiproxy.identity ORDER BY number") == [
        ("c:public.patients.ssn",),
        ("c:public.patients.note",),
    ]


def test_init_as_json(clinic: Clinic) -> None:
    made = json.loads(clinic.ok("keys", "init", "--json"))
    assert {"database", "what", "subject"} == set(made[0])
    assert json.loads(clinic.ok("keys", "init", "--json")) == []


def test_init_refuses_low_cardinality_of_new_slots_only(clinic: Clinic) -> None:
    text = clinic.policy.read_text()
    clinic.policy.write_text(text.replace("distinct: 100000", "distinct: 12"))
    code, out, err = clinic.run("keys", "init")
    assert (code, out) == (1, "")
    assert "policy.yaml:6:7: index @ of public.patients.ssn: declared distinct: 12 (below 1000)" in err
    assert not (clinic.directory / "kek.json").exists()
    clinic.policy.write_text(text)
    clinic.ok("keys", "init")
    clinic.policy.write_text(text.replace("distinct: 100000", "distinct: 12"))
    clinic.ok("keys", "init")


def test_a_lost_kek_file_is_not_replaced(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    (clinic.directory / "kek.json").unlink()
    code, _, err = clinic.run("keys", "init")
    assert code == 1
    assert "kek.json" in err
    assert not (clinic.directory / "kek.json").exists()


def test_list(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    listed = json.loads(clinic.ok("keys", "list", "--json"))
    assert {(k["scope"], k["purpose"], k["state"]) for k in listed} >= {("t:public.patients", "data", "active")}
    assert all(k["database"] == clinic.database for k in listed)
    assert "t:public.patients" in clinic.ok("keys", "list")


def test_list_without_a_registry(clinic: Clinic) -> None:
    code, out, err = clinic.run("keys", "list")
    assert (code, out) == (1, "")
    assert "no key registry in schema phiproxy" in err
    assert "keys init" in err


def test_export(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    dump = json.loads(clinic.ok("keys", "export"))
    assert dump["deployment"] == "clinic-test"
    path = clinic.directory / "dump.json"
    assert clinic.ok("keys", "export", "-o", str(path)) == ""
    assert json.loads(path.read_text()) == dump
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code, _, err = clinic.run("keys", "export", "-o", str(path))
    assert (code, err) == (1, f"phiproxy: {path}: File exists (docs/errors.md#err-config)\n")


def test_which_database(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    code, _, err = clinic.run("keys", "export", "-d", "other")
    assert code == 1
    assert f"no policy for database 'other' (policies are there for: {clinic.database})" in err


def test_open_what_is_no_value(clinic: Clinic, tmp_path: Path) -> None:
    clinic.ok("keys", "init")
    code, out, err = clinic.run("open", "xyz")
    assert (code, out) == (1, "")
    assert "must be hexadecimal" in err
    code, out, err = clinic.run("open", "\\x0102")
    assert (code, out) == (1, "")
    assert err.startswith("phiproxy: ")
    assert "Traceback" not in err
    (tmp_path / "dump.json").write_text("{}")
    code, _, err = clinic.run("open", "00", "--registry", str(tmp_path / "dump.json"))
    assert (code, err) == (1, "phiproxy: this is not a registry dump of format 1 (docs/errors.md#err-config)\n")


async def sealed(clinic: Clinic, plaintext: bytes) -> str:
    """One value of public.patients.note (identity 2, no slots), sealed as the proxy does it."""
    settings = load_settings(clinic.config)
    provider = await open_provider(settings.kek_uri, read_secret)
    async with service_pool(settings, clinic.database) as pool:
        async with pool.connection() as conn:
            trust = Trust("phiproxy", await unlock(conn, "phiproxy", "clinic-test", provider, None))
        registry, ring = Registry(pool, trust), Keyring(time.monotonic)
        layout = await registry.layout()
        service = KeyService(registry, provider, ring, layout, deployment="clinic-test", clock=time.monotonic)
        await service.fetch(frozenset({WriteKeyWant("t:public.patients", 1)}))
        spec = ColumnSpec("clinic-test", "", "c:public.patients.note", 2, 64)
        value = make_sealer(spec)(plaintext, draw_record(ring.reserve("t:public.patients", 1)), b"")
    await provider.close()
    return value.hex()


def test_open(clinic: Clinic) -> None:
    """From the database, which leaves a record, and from the dump and the KEK alone."""
    clinic.ok("keys", "init")
    value = asyncio.run(sealed(clinic, "Bärbel, née Ω".encode()))
    assert clinic.ok("open", f"\\x{value}") == "Bärbel, née Ω\n"
    assert clinic.sql("SELECT subject FROM phiproxy.event WHERE what = 'open'") == [("identity 2",)]
    dump = clinic.directory / "dump.json"
    clinic.ok("keys", "export", "-o", str(dump))
    clinic.sql("DROP SCHEMA phiproxy CASCADE")
    assert clinic.ok("open", value, "--registry", str(dump)) == "Bärbel, née Ω\n"
    broken = value[:-2] + ("00" if value[-2:] != "00" else "01")
    code, out, err = clinic.run("open", broken, "--registry", str(dump))
    assert (code, out) == (1, "")
    assert err.startswith("phiproxy: ")


def test_init_takes_no_number_for_a_column_that_is_not_there(clinic: Clinic) -> None:
    clinic.policy.write_text(clinic.policy.read_text().replace("note:", "nott:"))
    code, out, err = clinic.run("keys", "init")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "nott" in err
    assert not (clinic.directory / "kek.json").exists()


def test_keys_init_lets_go_of_its_tables_while_one_of_several_is_locked(clinic: Clinic) -> None:
    """Who writes to the others waits for moments only; once all are free it is done."""
    clinic.sql("CREATE TABLE visits (id int PRIMARY KEY, ssn text)")
    text = clinic.policy.read_text()
    listed = "      ssn: {type: text, indexes: [ssn], distinct: 100000}\n"
    clinic.policy.write_text(f"{text}  public.visits:\n    columns:\n{listed}")
    written: list[int] = []

    def others() -> None:
        with closing(holding), clinic.server.connect(clinic.database) as conn:
            until(lambda: conn.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall() != [], "it waits for no lock")
            conn.execute("SET lock_timeout TO '2500ms'")
            for n in range(3):
                conn.execute("INSERT INTO patients (id) VALUES (%s)", (n,))
                written.append(n)

    holding = psycopg.connect(clinic.server.dsn(clinic.database))
    holding.execute("INSERT INTO visits VALUES (1)")
    timer = Timer(0, others)
    timer.start()
    code, _, err = clinic.run("keys", "init")
    timer.join()
    assert (code, written) == (0, [0, 1, 2]), err


def test_init_registers_no_type_that_the_column_has_not(clinic: Clinic) -> None:
    """The policy's type stays, and no job would take the column: it is said before."""
    clinic.policy.write_text(clinic.policy.read_text().replace("note: {type: text", "note: {type: varchar(40)"))
    clinic.sql("INSERT INTO patients (id, note) VALUES (1, 'x')")
    code, out, err = clinic.run("keys", "init")
    assert (code, out) == (1, "")
    assert "public.patients.note is text, and the policy says varchar(40)" in err
    assert "write `type: text`" in err
    assert clinic.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)]
    assert clinic.run("keys", "init", "--clear", "public.patients.note")[0] == 0


def test_init_with_another_type_of_an_empty_table(clinic: Clinic) -> None:
    """Of which ``ddl`` makes what the policy says."""
    clinic.policy.write_text(clinic.policy.read_text().replace("note: {type: text", "note: {type: varchar(40)"))
    clinic.ok("keys", "init")


@pytest.mark.parametrize("locked", ["meta", "manifest", "identity", "event"])
def test_init_does_not_wait_for_a_locked_registry_for_good(clinic: Clinic, monkeypatch: pytest.MonkeyPatch, locked: str) -> None:
    clinic.ok("keys", "init")
    more = 'indexes: [ssn, "left(ssn, 2)"], accept_leakage: x'
    clinic.policy.write_text(clinic.policy.read_text().replace("indexes: [ssn]", more))
    monkeypatch.setattr("phiproxy.keys.registry_locks.PATIENCE", 0.5)
    with clinic.server.connect(clinic.database) as other, other.transaction():
        other.execute(f"LOCK TABLE phiproxy.{locked} IN ACCESS EXCLUSIVE MODE".encode())
        ((pid,),) = other.execute("SELECT pg_backend_pid()").fetchall()
        code, out, err = clinic.run("keys", "init")
    assert (code, out, f"session {pid} of {clinic.server.superuser}" in err) == (1, "", True), err
    assert clinic.run("keys", "init")[0] == 0


def test_keys_init_says_that_a_table_is_locked(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiproxy.keys.registry_locks.PATIENCE", 0.5)
    with psycopg.connect(clinic.server.dsn(clinic.database)) as holding:
        holding.execute("INSERT INTO patients VALUES (1)")
        code, _, err = clinic.run("keys", "init")
        assert (code, "what keys init has to lock" in err, "pg_locks shows who" in err) == (1, True, True), err
    assert clinic.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)]
    assert clinic.run("keys", "init")[0] == 0
