"""``keys rotate``, ``rewrap``, ``compromise`` and ``retire`` on a real database, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
from threading import Thread

import pytest

from tests.commands.conftest import Clinic
from tests.commands.test_keys import sealed
from tests.harness.waiting import until
from tests.keys.providers.parts import write_pair
from tests.keys.providers.transit import Key
from tests.keys.providers.vault_server import VaultServer


def sealed_value(clinic: Clinic) -> str:
    return asyncio.run(sealed(clinic, b"078-05-1120"))


def listed(clinic: Clinic) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(clinic.ok("keys", "list", "--json"))
    return found


def wraps(clinic: Clinic) -> list[tuple[object, ...]]:
    return clinic.sql("SELECT DISTINCT kek_uri, kek_version FROM phiproxy.root_wrap ORDER BY 1, 2")


def test_a_data_key_is_rotated_and_old_values_open(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    value = sealed_value(clinic)
    out = clinic.ok("keys", "rotate")
    assert "t:public.patients" in out
    assert "generation 2" in out
    states = clinic.sql("SELECT generation, state FROM phiproxy.data_key ORDER BY 1")
    assert states == [(1, "decrypt_only"), (2, "active")]
    assert clinic.ok("open", value) == "078-05-1120\n"


def test_a_root_is_rotated(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    value = sealed_value(clinic)
    (told,) = json.loads(clinic.ok("keys", "rotate", "--root", "--json"))
    assert told["now"] == "root key generation 2"
    assert clinic.ok("open", value) == "078-05-1120\n"
    code, _, err = clinic.run("keys", "rotate", "--scope", "d:nothing")
    assert code == 1
    assert "no registry has a data root of scope d:nothing" in err


def test_an_index_gets_its_next_slot_and_how_to_go_on_is_said(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    out = clinic.ok("keys", "rotate", "--index", "public.patients.ssn", "--later")
    assert "slot 1, generation 2, building" in out
    assert "searches go by the old one until: phiproxy reindex public.patients.ssn" in out
    told = json.loads(clinic.ok("keys", "rotate", "--index", "public.patients.ssn", "--later", "--json"))
    assert told == {"identity": "c:public.patients.ssn", "slot": 1, "generation": 2, "state": "building"}
    for wrong in ("public.patients.note", "public.patients.nothing", "public.patients.ssn:lower(@)"):
        assert clinic.run("keys", "rotate", "--index", wrong)[0] == 1
    assert clinic.run("keys", "rotate", "--root", "--index", "public.patients.ssn")[0] == 1


def test_a_local_kek_is_turned_over_and_rewrapped(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    value = sealed_value(clinic)
    assert "version 2; now run: phiproxy keys rewrap" in clinic.ok("keys", "rotate", "--kek")
    told = 'SELECT os_user <> \'\' AND "at" IS NOT NULL, subject, "from", "to" FROM phiproxy.event WHERE what = \'KEK rotated\''
    assert clinic.sql(told) == [(True, f"local:{clinic.directory}/kek.json", "version 1", "version 2")]
    clinic.ok("keys", "rewrap")
    assert [version for _, version in wraps(clinic)] == ["2"]
    assert clinic.ok("open", value) == "078-05-1120\n"
    assert json.loads(clinic.ok("keys", "rewrap", "--json"))[0]["wrapped_anew"] == 0
    wraps_listed = listed(clinic)[0]["wraps"]
    assert isinstance(wraps_listed, list)
    assert wraps_listed[0]["version"] == "2"


def test_another_kek_takes_over_in_two_steps(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    value = sealed_value(clinic)
    public, private = write_pair(clinic.directory, "new")
    old = clinic.config.read_text()
    clinic.config.write_text(old.replace("local:kek.json", f'"rsa:{public.name}?private={private.name}"'))
    code, _, err = clinic.run("keys", "rewrap")
    assert code == 1
    assert "--from" in err
    assert clinic.run("keys", "rewrap", "--from", "local:a?passphrase=hunter2")[0] == 1
    clinic.ok("keys", "rewrap", "--from", "local:kek.json")
    assert len(wraps(clinic)) == 2
    assert clinic.ok("open", value) == "078-05-1120\n"
    new = clinic.config.read_text()
    clinic.config.write_text(old)
    assert clinic.ok("open", value) == "078-05-1120\n"
    clinic.config.write_text(new)
    clinic.ok("keys", "rewrap", "--drop-old")
    assert len(wraps(clinic)) == 1
    assert clinic.ok("open", value) == "078-05-1120\n"
    assert clinic.run("keys", "rotate", "--kek")[0] == 1
    clinic.config.write_text(old)
    assert clinic.run("open", value)[0] == 1


def test_vaults_minimum_is_raised_only_when_nothing_is_below(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = VaultServer()
    vault.start()
    try:
        vault.transit.keys["phi"] = Key("phi", derived=True)
        monkeypatch.setenv("VAULT_ADDR", vault.address)
        monkeypatch.setenv("VAULT_TOKEN", "root")
        clinic.config.write_text(clinic.config.read_text().replace("local:kek.json", "vault:transit/phi"))
        clinic.ok("keys", "init")
        value = sealed_value(clinic)
        vault.transit.handle("POST", "keys/phi/rotate", {})
        clinic.rewrite("UPDATE phiproxy.root_key SET state = 'retired' WHERE purpose = 'index'")
        code, _, err = clinic.run("keys", "rewrap", "--raise-min-version")
        assert code == 1
        assert "still have a wrap below version 2" in err
        assert vault.transit.keys["phi"].min_decryption == 1
        clinic.rewrite("UPDATE phiproxy.root_key SET state = 'active' WHERE purpose = 'index'")
        code, _, err = clinic.run("keys", "rewrap", "--raise-min-version")
        assert (code, err) == (0, "min_decryption_version is 2 now\n")
        assert vault.transit.keys["phi"].min_decryption == 2
        assert clinic.ok("open", value) == "078-05-1120\n"
    finally:
        vault.stop()


def test_only_vault_has_a_minimum(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    code, _, err = clinic.run("keys", "rewrap", "--raise-min-version")
    assert code == 1
    assert "only a Vault key" in err


def test_compromise_and_retire(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    value = sealed_value(clinic)
    clinic.sql("ALTER TABLE patients ALTER note TYPE bytea USING NULL")
    clinic.sql(f"INSERT INTO patients (id, note) VALUES (1, '\\x{value}')")
    key = value[10:18]
    assert clinic.run("keys", "compromise", "xyz", "--reason", "x")[0] == 1
    assert "is compromised" in clinic.ok("keys", "compromise", key, "--reason", "laptop stolen")
    assert clinic.ok("open", value) == "078-05-1120\n"
    code, out, err = clinic.run("keys", "retire", key)
    assert (code, out) == (1, "")
    assert f"data key {key} still holds 1 values of public.patients.note" in err
    clinic.sql("DELETE FROM patients")
    assert "is retired" in clinic.ok("keys", "retire", key)
    code, _, err = clinic.run("open", value)
    assert code == 1
    assert "is retired" in err


def test_a_key_is_retired_behind_the_proxies_that_may_write_under_it(clinic: Clinic) -> None:
    """One that has not heard yet that another key writes is waited for."""
    clinic.ok("keys", "init")
    clinic.ok("keys", "rotate")
    (key,) = clinic.sql("SELECT to_hex(id) FROM phiproxy.data_key WHERE state = 'decrypt_only'")[0]
    behind = "SELECT 1, now() + interval '1 h', epoch - 1, 0 FROM phiproxy.meta"
    clinic.sql(f"INSERT INTO phiproxy.proxy (id, seen_at, epoch, heard) {behind}")
    states: list[object] = []

    def hearing() -> None:
        asking = "query LIKE '%proxy%epoch <%' AND datname = current_database() AND pid <> pg_backend_pid()"
        until(lambda: clinic.sql(f"SELECT 1 FROM pg_stat_activity WHERE {asking}") != [], "it waits for no proxy", 30)
        states.extend(clinic.sql(f"SELECT state FROM phiproxy.data_key WHERE to_hex(id) = '{key}'"))
        clinic.sql("UPDATE phiproxy.proxy SET epoch = (SELECT epoch FROM phiproxy.meta)")

    thread = Thread(target=hearing)
    thread.start()
    out = clinic.run("keys", "retire", key)[1]
    thread.join()
    assert ("is retired" in out, states) == (True, [("decrypt_only",)])


def test_paths_are_those_of_the_configuration(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    clinic.ok("keys", "init")
    clinic.ok("keys", "rotate", "--kek")
    assert json.loads((clinic.directory / "kek.json").read_text())["current"] == 2
