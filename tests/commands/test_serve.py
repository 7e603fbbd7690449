"""``phiproxy serve``: that it starts and serves is what tests/integration is about; here, that it says why it does not."""

import json

import pytest

from tests.commands.conftest import Clinic


def complaint(clinic: Clinic) -> dict[str, object]:
    """The one line that it leaves."""
    code, out, err = clinic.run("serve")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    found: dict[str, object] = json.loads(line)
    assert (found["event"], found["level"]) == ("cannot start", "critical")
    return found


def test_without_a_registry(clinic: Clinic) -> None:
    """Nobody's terminal: the log is JSON, and so is its last line."""
    clinic.ok("keys", "init")
    clinic.sql("DROP SCHEMA phiproxy CASCADE")
    found = complaint(clinic)
    assert found["complaints"] == ["the database has no key registry in schema phiproxy"]
    assert "phiproxy keys init" in str(found["hint"])
    assert found["see"] == "docs/errors.md#err-config"


def test_a_broken_configuration(clinic: Clinic) -> None:
    clinic.config.write_text("lisen: x\n")
    assert complaint(clinic)["complaints"] == [f"{clinic.config}:1:1: unknown key 'lisen'; did you mean 'listen'?"]


def test_for_people_it_is_told_as_by_every_command(clinic: Clinic) -> None:
    clinic.config.write_text(clinic.config.read_text() + "log: {format: console}\n")
    code, out, err = clinic.run("serve")
    assert (code, out) == (1, "")
    assert err.startswith("phiproxy: ")
    assert "kek.json cannot be read" in err


def test_what_nobody_expected_is_type_and_place(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("123-45-6789")

    monkeypatch.setattr("phiproxy.app.serve", fail)
    found = complaint(clinic)
    assert found["error"] == "ValueError"
    assert "123-45-6789" not in str(found)
