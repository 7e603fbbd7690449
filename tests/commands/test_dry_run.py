"""``--dry-run`` of what rewrites sealed values where they stand: it says what would be done, in numbers too; nothing changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phiproxy.jobs import disk
from tests.commands.conftest import Clinic
from tests.commands.test_check import ready
from tests.commands.test_filled import fill

STATE = (
    "SELECT (SELECT count(*) FROM phiproxy.event), (SELECT value FROM phiproxy.counter), to_regclass('phiproxy.job'),"
    " ARRAY(SELECT relname::text || relfilenode FROM pg_class WHERE relkind IN ('r', 'i') AND oid > 16383 ORDER BY 1),"
    " ARRAY(SELECT xmin::text || ctid::text FROM patients ORDER BY 1)"
)
KEY = "SELECT to_hex(id) FROM phiproxy.data_key WHERE generation = {}"


def looked(clinic: Clinic, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Return what a look says of the database, by a run that has changed nothing; in words it has the same end."""
    before = clinic.sql(STATE)
    ended, out, err = clinic.run(*arguments, "--dry-run", "--json")
    assert (ended, err) == (code, "")
    assert clinic.run(*arguments, "--dry-run")[0] == code
    assert clinic.sql(STATE) == before
    (look,) = json.loads(out)
    assert look["database"] == clinic.database
    return look  # type: ignore[no-any-return]


def key_of(clinic: Clinic, generation: int = 1) -> str:
    return f"{int(clinic.sql(KEY.format(generation))[0][0], 16):08x}"


def test_recrypt_counts_values_by_key_and_rows(clinic: Clinic) -> None:
    ready(clinic)
    fill(clinic, 7)
    assert looked(clinic, "recrypt") == {"database": clinic.database, "keys": [], "done": [], "obstacles": []}
    assert f"nothing to do in {clinic.database}" in clinic.ok("recrypt", "--dry-run")
    old = key_of(clinic)
    look = looked(clinic, "recrypt", "--key", old)
    assert f"data key {old} writes for t:public.patients: another one follows it first" in look["done"]
    clinic.ok("keys", "rotate")
    clinic.sql("UPDATE patients SET note = overlay(ssn PLACING '\\x0002' FROM 10), ssn = NULL WHERE id > 4")
    clinic.sql("UPDATE patients SET note = overlay(ssn PLACING '\\x0002' FROM 10) WHERE id = 1")
    look = looked(clinic, "recrypt")
    values = {"public.patients.note": 4, "public.patients.ssn": 4}
    assert look["keys"] == [{"id": old, "scope": "t:public.patients", "tenant": "", "state": "decrypt_only", "values": values}]
    assert look["rows"] == {"public.patients": 7}
    text = clinic.ok("recrypt", "--dry-run")
    assert f"values under data key {old} (t:public.patients, decrypt_only) are sealed anew: 4 of public.patients.note, 4 of" in text
    assert "public.patients: 7 rows are written anew" in text
    assert looked(clinic, "recrypt", "--key", key_of(clinic, 2))["keys"][0]["values"] == {}


def test_what_would_keep_rows_from_being_written(clinic: Clinic) -> None:
    """Triggers that fire for each row whoever writes, and rows that nothing names."""
    ready(clinic)
    fill(clinic, 3)
    clinic.ok("keys", "rotate")
    clinic.sql("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$")
    clinic.sql("CREATE TRIGGER shouts BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION shout()")
    clinic.sql("ALTER TABLE patients ENABLE ALWAYS TRIGGER shouts")
    clinic.sql("ALTER TABLE patients DROP CONSTRAINT patients_pkey")
    for arguments in (("recrypt",), ("keys", "rotate", "--index", "public.patients.ssn")):
        (unnamed, firing) = looked(clinic, *arguments, code=1)["obstacles"]
        assert "public.patients has no primary key" in unnamed
        assert "an UPDATE of public.patients would fire shouts; to let it fire once per row: --fire-triggers" in firing
        assert looked(clinic, *arguments, "--fire-triggers", code=1)["obstacles"] == [unnamed]
    assert "what keeps it from being done in" in clinic.run("recrypt", "--dry-run")[1]


def test_what_a_job_refuses_before_it_looks_for_rows_is_named_too(clinic: Clinic) -> None:
    """A trigger of a table with nothing to rewrite, and of one whose tags are only to be cleared: the job refuses both."""
    ready(clinic)
    fill(clinic, 3)
    clinic.ok("keys", "rotate")
    clinic.sql("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    clinic.sql("CREATE TRIGGER shouts BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION shout()")
    clinic.sql("ALTER TABLE patients ENABLE ALWAYS TRIGGER shouts")
    clinic.sql("DELETE FROM patients")
    for arguments in (("recrypt",), ("keys", "rotate", "--index", "public.patients.ssn")):
        (told,) = looked(clinic, *arguments, code=1)["obstacles"]
        assert "an UPDATE of public.patients would fire shouts" in told
        code, _, err = clinic.run(*arguments)
        assert (code, "an UPDATE of public.patients would fire shouts" in err) == (1, True)


def test_what_would_fire_is_named_before_columns_are_encrypted(clinic: Clinic) -> None:
    clinic.sql("INSERT INTO patients VALUES (1, '078-05-1120', 'a note')")
    clinic.run("keys", "init")
    clinic.sql("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    clinic.sql("CREATE TRIGGER shouts AFTER UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION shout()")
    assert clinic.run("encrypt", "--dry-run")[0] == 0, "a superuser keeps it from firing"
    clinic.sql("ALTER TABLE patients ENABLE ALWAYS TRIGGER shouts")
    code, _, err = clinic.run("encrypt")
    told = "an UPDATE of public.patients would fire shouts; to let it fire once per row: --fire-triggers"
    assert (code, told in err) == (1, True)
    assert json.loads(clinic.ok("jobs", "--json")) == []
    assert clinic.run("encrypt", "--dry-run", "--fire-triggers")[0] == 0


def test_an_index_key_that_would_be_rotated(clinic: Clinic) -> None:
    """The slot is not made; one that was made, and is yet to be filled, is told as ``reindex`` would fill it."""
    ready(clinic)
    fill(clinic, 5)
    (slot,) = (look := looked(clinic, "keys", "rotate", "--index", "public.patients.ssn"))["slots"]
    assert slot == {
        "identity": "c:public.patients.ssn", "expression": "@", "slot": 1, "generation": 2, "state": "building",
        "rows": {"public.patients": 5}, "indexes": ["patients_ssn_key"], "dropped": [0],
    }  # fmt: skip
    assert look["done"] == [
        "index @ of c:public.patients.ssn: slot 1, generation 2, is filled: 5 rows of public.patients",
        "index @ of c:public.patients.ssn: others are built beside patients_ssn_key, in whose place they come;"
        " then searches go by slot 1",
        "index @ of c:public.patients.ssn: slot 0 is dropped then",
    ]
    clinic.ok("keys", "rotate", "--index", "public.patients.ssn", "--later")
    fill_two = f"f550010100{key_of(clinic)}000102"
    clinic.sql(f"UPDATE patients SET ssn = decode('{fill_two}' || repeat('02', 32) || repeat('00', 44), 'hex') WHERE id = 1")
    again = looked(clinic, "reindex", "public.patients.ssn", "--clear")
    assert again["slots"] == [slot | {"rows": {"public.patients": 4}}]
    assert again["cleared"] == {"public.patients": 5}
    code, _, err = clinic.run("keys", "rotate", "--dry-run")
    assert (code, "--dry-run goes with --index" in err) == (1, True)


def test_a_table_under_row_level_security_would_be_rewritten(clinic: Clinic) -> None:
    ready(clinic)
    clinic.sql("ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
    (text,) = looked(clinic, "keys", "rotate", "--index", "public.patients.ssn", code=1)["obstacles"]
    assert "public.patients needs the generated column" in text
    assert "rewrites the table" in text
    look = looked(clinic, "keys", "rotate", "--index", "public.patients.ssn", "--lock-tables")
    assert text.partition(";")[0] in look["done"]


def test_the_answer_to_a_compromise(clinic: Clinic) -> None:
    ready(clinic)
    fill(clinic, 6)
    old = key_of(clinic)
    look = looked(clinic, "respond", "--key", old, "--reason", "a test")
    assert look["rows"] == {"public.patients": 6}
    assert look["keys"][0]["values"] == {"public.patients.ssn": 6}
    assert (look["roots"], look["subjects"]) == ([], {})
    assert f"data key {old} is marked compromised, and retired once nothing is under it" in look["done"]
    assert any(line.startswith("the incident file is written into") for line in look["done"])
    look = looked(clinic, "respond", "--kek", "local:kek.json", "--reason", "a test")
    assert ["t:public.patients", "", "data", 1] in look["roots"]
    assert "data root key of t:public.patients, generation 1, is wrapped anew, followed, and retired" in look["done"]
    assert "the KEK's file gets another key; while proxies are at work these are given the file first" in look["done"]
    assert [(slot["identity"], slot["slot"], slot["dropped"]) for slot in look["slots"]] == [("c:public.patients.ssn", 1, [0])]
    assert look["cleared"] == {"public.patients": 6}
    assert json.loads((clinic.directory / "kek.json").read_text())["current"] == 1, "no key was added to the file"


def fill_up(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it look as if nothing were free on the server's disks."""
    full = {oid: disk._Free(100, 1) for oid in (0, *(row[0] for row in clinic.sql("SELECT oid::int8 FROM pg_tablespace")))}
    monkeypatch.setattr(disk, "_looked", lambda *_: full)


def test_room_is_told_and_where_it_lacks_nothing_is_begun(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows that are written anew and of indexes that are built; who knows better says so."""
    ready(clinic)
    fill(clinic, 7)
    clinic.ok("keys", "rotate")
    arguments: list[tuple[str, ...]] = [
        ("recrypt",),
        ("keys", "rotate", "--index", "public.patients.ssn"),
        ("respond", "--kek", "local:kek.json", "--reason", "a test"),
        ("respond", "--key", key_of(clinic), "--reason", "a test"),
    ]
    for each in arguments:
        look = looked(clinic, *each)
        (need,) = look["disk"]
        assert (need["table"], need["rows"]) == ("public.patients", 7)
        assert min(need["wal_bytes"], *need["more_bytes"].values()) > 7 * 100
        assert any(line.startswith("free in pg_wal: ") for line in look["room"])
    fill_up(clinic, monkeypatch)
    for each in arguments:
        _refused(clinic, each)
    clinic.ok("keys", "rotate", "--index", "public.patients.ssn", "--later")
    _refused(clinic, ("reindex", "public.patients.ssn"))
    assert "phiproxy: sealing anew" in clinic.run("recrypt", "--disk-anyway")[2], "it has begun, though these values do not open"


def _refused(clinic: Clinic, arguments: tuple[str, ...]) -> None:
    before = clinic.sql(STATE)
    (obstacle,) = looked(clinic, *arguments, code=1)["obstacles"]
    assert "100 bytes are free, and " in obstacle
    assert obstacle.endswith("; to begin all the same: --disk-anyway")
    assert looked(clinic, *arguments, "--disk-anyway")["obstacles"] == []
    code, _, err = clinic.run(*arguments)
    assert (code, obstacle in err) == (1, True)
    assert clinic.sql(STATE) == before


def test_where_all_does_not_fit_rows_are_counted(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a database that is larger than what is free a job begins that writes little of it."""
    ready(clinic)
    fill(clinic, 7)
    clinic.ok("keys", "rotate")
    clinic.sql("UPDATE patients SET ssn = NULL, note = NULL")
    fill_up(clinic, monkeypatch)
    assert "is done" in clinic.run("recrypt")[1]


def test_it_lacks_for_what_is_encrypted_unless_somebody_says_otherwise(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.sql("INSERT INTO patients VALUES (1, '078-05-1120', 'a note')")
    clinic.run("keys", "init")
    fill_up(clinic, monkeypatch)
    code, _, err = clinic.run("encrypt")
    assert (code, "; to begin all the same: --disk-anyway" in err) == (1, True)
    assert "100 bytes are free, and " in clinic.ok("encrypt", "--dry-run", "--disk-anyway")
