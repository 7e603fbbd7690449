"""Tables that hold something already: what the commands say of it is true, and leads somewhere."""

from __future__ import annotations

import json

import pytest

from tests.commands.conftest import Clinic
from tests.commands.test_check import errors, findings, ready


def fill(clinic: Clinic, rows: int, *, tags: int = 1, key: str | None = None) -> None:
    """Store values of ssn as the proxy would, as far as the server can see: under a data key of the registry, with tags."""
    if key is None:
        (key,) = clinic.sql("SELECT to_hex(id) FROM phiproxy.data_key LIMIT 1")[0]
    head = f"f550010100{key:0>8}0001{tags:02x}"
    clinic.sql(
        f"INSERT INTO patients (id, ssn) SELECT g, decode('{head}' || repeat(md5(g::text), {tags}) || repeat('00', 44), 'hex')"
        f" FROM generate_series(1, {rows}) g"
    )


def add_index(clinic: Clinic) -> None:
    text = clinic.policy.read_text()
    clinic.policy.write_text(text.replace("indexes: [ssn], distinct: 100000", 'indexes: [ssn, "left(ssn, 3)"], accept_leakage: x'))


def index_findings(clinic: Clinic) -> list[tuple[str, str]]:
    return [(f["level"], f["text"]) for f in findings(clinic)[1] if f["topic"] == "index"]


def test_an_index_that_is_added_to_a_filled_column(clinic: Clinic) -> None:
    """And when it is emptied: it works, which it never did."""
    ready(clinic)
    fill(clinic, 200)
    add_index(clinic)
    code, out, err = clinic.run("keys", "init")
    assert code == 0
    assert "slot made, building" in out
    assert err == (
        "phiproxy: public.patients.ssn: index left(ssn,3) answers nothing yet: 200 of 200 stored values have no tag in it;"
        " `phiproxy reindex public.patients.ssn` gives them theirs while the table is in use\n"
    )
    assert err == clinic.run("keys", "init")[2], "each time"
    assert ("warning", err.removeprefix("phiproxy: ").strip()) in index_findings(clinic)
    clinic.sql("TRUNCATE patients")
    warned = [text for level, text in index_findings(clinic) if level == "warning"]
    assert any("no value lacks its tag: run `phiproxy keys init`" in text for text in warned)
    assert "slot active" in clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    assert index_findings(clinic) == []
    assert findings(clinic)[0] == 0


def test_a_registry_that_was_lost(clinic: Clinic) -> None:
    """A restore of ``public`` only: new keys would open none of what is there."""
    unpinned = clinic.config.read_text()
    ready(clinic)
    fill(clinic, 3)
    (clinic.directory / "dump.json").write_text(clinic.ok("keys", "export"))
    clinic.sql("DROP SCHEMA phiproxy CASCADE")
    code, out, err = clinic.run("keys", "init")
    assert (code, out) == (1, "")
    told = f"{clinic.policy}:6:7: public.patients.ssn holds 3 values that were sealed under keys of another registry"
    assert err.startswith(f"phiproxy: {told}; new keys would open none of them.")
    assert "phiproxy keys import" in err
    assert "docs/restore-the-registry.md" in err
    assert clinic.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)]
    (error,) = errors(clinic)
    assert error.startswith(f"{told}: new keys would open none of them.")
    assert "run `phiproxy keys init`" not in error
    clinic.sql("TRUNCATE patients")
    clinic.config.write_text(unpinned)
    assert "registry made" in clinic.ok("keys", "init")


def test_a_registry_that_knows_nothing_of_a_column(clinic: Clinic) -> None:
    """A new one beside tables of another: its own values under another name are its own."""
    ready(clinic)
    fill(clinic, 2)
    clinic.sql("CREATE TABLE copies AS SELECT id, ssn FROM patients")
    text = clinic.policy.read_text()
    clinic.policy.write_text(text + "  public.copies:\n    columns:\n      ssn: {type: text, pad: 64}\n")
    clinic.run("keys", "init")
    assert clinic.sql("SELECT count(*) FROM phiproxy.column_name WHERE \"table\" = 'copies'") == [(1,)]
    clinic.sql("DELETE FROM phiproxy.column_name WHERE \"table\" = 'copies'")
    clinic.sql("UPDATE copies SET ssn = set_byte(ssn, 5, get_byte(ssn, 5) # 255)")
    code, _, err = clinic.run("keys", "init")
    assert code == 1
    assert "public.copies.ssn holds 2 values that were sealed under keys of another registry" in err


def test_an_index_key_is_rotated_over_what_opens_only(clinic: Clinic) -> None:
    """These values are none: each is named, and the old slot goes on being searched."""
    ready(clinic)
    fill(clinic, 7)
    code, _, err = clinic.run("keys", "rotate", "--index", "public.patients.ssn")
    assert code == 1
    assert "filling slot 1 of c:public.patients.ssn: 7 rows could not be done" in err
    assert "public.patients, id 3: stored value does not open" in err
    assert clinic.sql("SELECT slot, state FROM phiproxy.slot WHERE number = 1 ORDER BY 1") == [(0, "active"), (1, "building")]
    (job,) = [f["text"] for f in findings(clinic)[1] if f["topic"] == "job"]
    assert job.startswith("job 1, reindex public.patients.ssn:@ has failed, filling slot 1 of c:public.patients.ssn: ")
    assert "`phiproxy jobs resume 1` goes on" in job


def test_after_an_index_key_was_rotated_check_says_what_is(clinic: Clinic) -> None:
    """Searches are answered by the slot before, through its index, and leakage is measured there."""
    ready(clinic)
    clinic.ok("keys", "rotate", "--index", "public.patients.ssn", "--later")
    assert clinic.ok("ddl").startswith("-- nothing to do")
    fill(clinic, 5)
    fill_again = "UPDATE patients SET ssn = set_byte(ssn, 11, 2) || decode(repeat('11', 16), 'hex') WHERE id <= 2"
    clinic.sql(fill_again)
    code, found = findings(clinic)
    assert code == 0
    (index,) = [(f["level"], f["text"]) for f in found if f["topic"] == "index"]
    assert index[0] == "note"
    assert "index ssn is searched by slot 0, generation 1" in index[1]
    assert "3 of 5 stored values have no tag in it: `phiproxy reindex public.patients.ssn` gives them theirs" in index[1]
    texts = " ".join(f["text"] for f in found)
    assert "5 distinct among 5" in texts
    assert "answers nothing" not in texts
    assert "every search reads the table" not in texts


@pytest.mark.parametrize("rows", [1, 1200])
def test_rows_in_plaintext_are_counted_and_a_way_is_named(clinic: Clinic, rows: int) -> None:
    clinic.ok("keys", "init")
    clinic.sql(f"INSERT INTO patients SELECT g, 'x' || g, 'y' FROM generate_series(1, {rows}) g")
    code, out, err = clinic.run("ddl")
    assert (code, out) == (1, "")
    assert f"public.patients has {rows} rows in plaintext, which `phiproxy encrypt` seals in place" in err
    looked = clinic.run("encrypt", "--dry-run")
    assert "public.patients.ssn (text) becomes bytea with a guard" in looked[1], "though it was empty when it was registered"


def test_json_is_json_whatever_is_said_beside_it(clinic: Clinic) -> None:
    ready(clinic)
    fill(clinic, 1)
    add_index(clinic)
    _, out, err = clinic.run("keys", "init", "--json")
    assert [d["what"] for d in json.loads(out)] == ["slot made, building"]
    assert "answers nothing yet" in err
