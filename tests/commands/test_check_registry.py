"""What ``check`` says of the key registry."""

from __future__ import annotations

import asyncio
import re

from tests.commands.conftest import Clinic
from tests.commands.test_check import findings, ready
from tests.commands.test_keys import sealed


def said(clinic: Clinic) -> tuple[int, list[tuple[str, str]]]:
    code, found = findings(clinic)
    return code, [(f["level"], f["text"]) for f in found if f["topic"] == "registry"]


def test_all_is_well(clinic: Clinic) -> None:
    ready(clinic)
    assert said(clinic) == (0, [("ok", "every row of the key registry is as phiproxy has left it")])


def test_a_registry_that_is_not_pinned_is_a_warning(clinic: Clinic) -> None:
    ready(clinic)
    clinic.config.write_text(re.sub(r"anchor: \{.*?\}, ", "", clinic.config.read_text()))
    code, found = said(clinic)
    assert code == 0
    assert found[0][0] == "warning"
    assert "keys.anchor does not pin this registry (reg1-" in found[0][1]
    assert "keys.anchor written" in clinic.ok("keys", "init")
    assert said(clinic)[1][0][0] == "ok"


def test_a_row_that_was_changed_is_named_and_the_rest_is_checked(clinic: Clinic) -> None:
    ready(clinic)
    clinic.sql("UPDATE phiproxy.slot SET state = 'dropped'")
    code, found = said(clinic)
    assert code == 1
    assert found == [("error", "slot (1, 0) is not as phiproxy has written it last: docs/restore-the-registry.md")]
    assert any(f["topic"] == "leakage" and "public.patients.note" in f["text"] for f in findings(clinic)[1])
    code, out, err = clinic.run("keys", "init")
    assert (code, out) == (1, "")
    assert "slot (1, 0) is not as phiproxy has written it last" in err


def test_a_kek_that_does_not_open_it_is_an_error(clinic: Clinic) -> None:
    ready(clinic)
    (clinic.directory / "kek.json").rename(clinic.directory / "elsewhere.json")
    code, found = said(clinic)
    assert code == 1
    assert [level for level, _ in found] == ["error"]
    assert "kek.json" in found[0][1]


def test_values_under_a_key_that_is_not_there(clinic: Clinic) -> None:
    ready(clinic)
    value = asyncio.run(sealed(clinic, b"M-1"))
    clinic.sql(f"INSERT INTO patients (id, note) VALUES (1, '\\x{value}')")
    assert said(clinic)[0] == 0
    clinic.rewrite("DELETE FROM phiproxy.data_key")
    code, found = said(clinic)
    assert code == 1
    (text,) = (text for level, text in found if level == "error")
    assert f"public.patients.note has values under data keys that the registry does not have ({value[10:18]})" in text
