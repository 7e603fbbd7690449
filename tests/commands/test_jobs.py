"""``phiproxy jobs``, ``recrypt``, ``reindex`` and ``respond`` as they are called: what is refused, listed and said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from threading import Thread, Timer

import psycopg
import pytest

from phiproxy.commands.recrypt import choice_of
from phiproxy.errors import ConfigError
from phiproxy.jobs.filling import Filling
from phiproxy.jobs.recrypt import Choice
from phiproxy.jobs.row_sql import Done, Row
from tests.commands.conftest import Clinic
from tests.commands.test_check import findings, ready
from tests.commands.test_filled import fill
from tests.harness.waiting import until

NOTHING = {"keys": [], "compromised": False, "older": None, "scope": None, "tenant": None}


def test_which_keys_the_options_mean() -> None:
    assert choice_of(NOTHING) == Choice()
    assert choice_of({**NOTHING, "keys": ["5fc3a911", "1"]}) == Choice(keys=(0x5FC3A911, 1))
    assert choice_of({**NOTHING, "older": "90d", "scope": "d:mrn"}) == Choice(older=90 * 86400.0, scope="d:mrn")
    for wrong in ({"keys": ["no key"]}, {"keys": ["1"], "compromised": True}, {"older": "long ago"}):
        with pytest.raises(ConfigError):
            choice_of({**NOTHING, **wrong})


def test_nothing_to_do(clinic: Clinic) -> None:
    ready(clinic)
    assert "nothing to do" in clinic.ok("recrypt")
    code, _, err = clinic.run("reindex", "public.patients.ssn")
    assert (code, "no index waits for values to be rewritten" in err) == (1, True)
    assert json.loads(clinic.ok("jobs", "--json")) == []
    assert [f for f in findings(clinic)[1] if f["topic"] == "job"] == []


def test_a_job_is_listed_when_it_is_over(clinic: Clinic) -> None:
    ready(clinic)
    clinic.ok("keys", "rotate")
    code, out, err = clinic.run("recrypt", "--rate", "100")
    assert code == 0, err
    assert "job 1, recrypt" in out
    assert "phiproxy keys retire ID" in out
    (job,) = json.loads(clinic.ok("jobs", "--json"))
    assert (job["id"], job["kind"], job["state"], job["worked_on"]) == (1, "recrypt", "done", False)
    assert "recrypt" in clinic.ok("jobs")
    for command in ("pause", "resume", "abort"):
        assert clinic.run("jobs", command, "1")[0] == 1
        assert "no job 9" in clinic.run("jobs", command, "9")[2]


def test_rows_that_could_not_be_done_are_in_json_too(clinic: Clinic) -> None:
    """All of them, where the text names twenty; each with why."""
    ready(clinic)
    fill(clinic, 30)
    assert clinic.run("keys", "rotate", "--index", "public.patients.ssn", "--later")[0] == 0
    for arguments in (("reindex", "public.patients.ssn"), ("jobs", "resume", "1")):
        code, out, err = clinic.run(*arguments, "--json")
        assert (code, "and 10 more" in err) == (1, True), err
        *_, last = map(json.loads, out.splitlines())
        assert {name: last[name] for name in ("job", "state", "phase")} == {
            "job": 1, "state": "failed", "phase": "filling slot 1 of c:public.patients.ssn",
        }  # fmt: skip
        why = "stored value does not open"
        assert sorted(each["row"] for each in last["undone"]) == sorted(f"public.patients, id {n}" for n in range(1, 31))
        assert all(each["why"].startswith(why) for each in last["undone"])


def test_a_job_that_was_broken_off_is_named(clinic: Clinic) -> None:
    ready(clinic)
    clinic.ok("keys", "rotate")
    clinic.run("recrypt")
    clinic.rewrite("UPDATE phiproxy.job SET state = 'running'")
    (finding,) = [f for f in findings(clinic)[1] if f["topic"] == "job"]
    assert finding["level"] == "warning"
    assert "was broken off" in finding["text"]
    assert "broken off" in clinic.ok("jobs")
    assert "is paused" in clinic.ok("jobs", "pause", "1")
    assert any("is paused" in f["text"] for f in findings(clinic)[1] if f["topic"] == "job")
    assert "is done" in clinic.run("jobs", "resume", "1")[1]


@pytest.mark.parametrize("locked", ["job", "counter", "job_progress"])
@pytest.mark.parametrize("how", ["pause", "abort", "resume"])
def test_a_registry_that_somebody_keeps_locked_stops_no_command_for_good(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, how: str, locked: str
) -> None:
    """It says so, and the job is as it was; once the lock is gone, it is done."""
    ready(clinic)
    clinic.ok("keys", "rotate")
    clinic.run("recrypt")
    clinic.rewrite("UPDATE phiproxy.job SET state = 'running'")
    monkeypatch.setattr("phiproxy.keys.registry_locks.PATIENCE", 0.3)
    before = "SELECT state, (SELECT count(*) FROM phiproxy.event), (SELECT value FROM phiproxy.counter) FROM phiproxy.job"
    state = clinic.sql(before)
    with clinic.server.connect(clinic.database) as other, other.transaction():
        other.execute(f"LOCK TABLE phiproxy.{locked} IN ACCESS EXCLUSIVE MODE".encode())
        ((pid,),) = other.execute("SELECT pg_backend_pid()").fetchall()
        code, _, err = clinic.run("jobs", how, "1")
    if (how, locked) != ("pause", "job_progress"):  # which it does not look at
        assert (code, "Lock" in err or "lock timeout" in err, "pg_locks shows whose it is" in err) == (1, True, True), err
        assert f"session {pid} of {clinic.server.superuser} has the key registry locked" in err
        assert clinic.sql(before) == state
        assert clinic.run("jobs", how, "1")[0] == 0
    assert clinic.sql("SELECT state FROM phiproxy.job") == [({"pause": "paused", "abort": "aborted", "resume": "done"}[how],)]


def filled(clinic: Clinic) -> None:
    """Rows in plaintext, of a policy that is registered."""
    clinic.sql("INSERT INTO patients SELECT g, 'secret ' || g, 'note' FROM generate_series(1, 300) g")
    assert clinic.run("keys", "init")[0] == 0


@pytest.mark.parametrize("locked", ["job", "job_progress"])
@pytest.mark.parametrize("patience", [30.0, 0.5])
def test_a_job_at_work_waits_for_the_registry_and_not_without_end(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, patience: float, locked: str
) -> None:
    """It goes on once the lock is gone; where it is not, it says who has it, has no row locked meanwhile, and is resumed."""
    filled(clinic)
    monkeypatch.setattr("phiproxy.keys.registry_locks.PATIENCE", patience)
    other, work, timers = psycopg.connect(clinic.server.dsn(clinic.database)), Filling.__call__, list[Timer]()
    free: list[bool] = []

    def let_go() -> None:
        with clinic.server.connect(clinic.database) as conn:
            conn.execute("SET lock_timeout TO '2s'")
            conn.execute("UPDATE patients SET id = id")  # the job may have rows locked for a moment
            free.append(True)
        other.commit()

    async def locking(self: Filling, rows: Sequence[Row]) -> list[Done]:
        if not timers:
            other.execute(f"LOCK TABLE phiproxy.{locked} IN ACCESS EXCLUSIVE MODE".encode())
            timers.append(Timer(2.5, let_go))
            timers[0].start()
        return await work(self, rows)

    monkeypatch.setattr(Filling, "__call__", locking)
    code, _, err = clinic.run("encrypt")
    timers[0].join()
    pid = other.info.backend_pid
    other.close()
    assert free == [True], err
    if patience == 0.5:
        assert (code, f"session {pid} of" in err, "phiproxy jobs resume" in err) == (1, True, True), err
        assert clinic.run("jobs", "resume", "1")[0] == 0
    else:
        assert code == 0, err
    assert clinic.sql("SELECT count(*) FROM patients WHERE ssn IS NOT NULL AND note IS NOT NULL") == [(300,)]
    assert clinic.sql("SELECT pg_typeof(ssn)::text FROM patients LIMIT 1") == [("bytea",)]


def test_a_job_that_is_aborted_can_be_aborted_again(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever aborted it may have been killed, or kept out by a lock: what it has added is taken back. Not what another has."""
    hidden = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'patients'::regclass AND attname LIKE 'phi%'"
    filled(clinic)

    async def broken(*_: object) -> None:
        raise psycopg.OperationalError("the connection is lost")

    def left_by_a_killed_job() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("phiproxy.jobs.running.Run.go_through", broken)
            assert clinic.run("encrypt")[0] == 1
        assert clinic.sql(hidden) == [(2,)]

    left_by_a_killed_job()
    clinic.rewrite("UPDATE phiproxy.job SET state = 'aborted'")
    clinic.ok("jobs", "abort", "1")
    assert clinic.sql(hidden) == [(0,)]
    clinic.ok("jobs", "abort", "1")
    left_by_a_killed_job()
    code, _, err = clinic.run("jobs", "abort", "1")
    assert (code, "job 2, encrypt" in err, "phiproxy jobs abort 2" in err) == (1, True, True), err
    assert clinic.sql(hidden) == [(2,)]
    clinic.ok("jobs", "abort", "2")
    assert clinic.sql(hidden) == [(0,)]
    assert clinic.run("encrypt")[0] == 0
    clinic.ok("jobs", "abort", "2")
    assert clinic.run("jobs", "abort", "3")[0] == 1


def test_cleared_tags_do_not_come_back_by_who_still_sees_them(clinic: Clinic) -> None:
    """A REPEATABLE READ transaction of before copies rows as they were: it is waited for, and what it has copied follows."""
    filled(clinic)
    assert clinic.run("encrypt")[0] == 0
    clinic.sql("ALTER TABLE patients DROP CONSTRAINT IF EXISTS patients_ssn_key; DROP INDEX IF EXISTS patients_ssn_key")
    clinic.ok("keys", "rotate", "--index", "public.patients.ssn", "--later")
    assert clinic.run("reindex", "public.patients.ssn")[0] == 0
    tagged = "SELECT count(*) FROM patients WHERE substring(ssn, 13, 16) <> decode(repeat('00', 16), 'hex')"
    assert clinic.sql(tagged) == [(300,)]
    with psycopg.connect(clinic.server.dsn(clinic.database)) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM patients")

        def copying() -> None:
            until(lambda: clinic.sql(tagged) == [(0,)], "they are not cleared")
            old.execute("INSERT INTO patients (id, ssn) SELECT id + 1000, ssn FROM patients WHERE id <= 3")
            old.commit()

        thread = Thread(target=copying)
        thread.start()
        code, _, err = clinic.run("reindex", "public.patients.ssn", "--clear")
        thread.join()
    assert (code, clinic.sql(tagged)) == (0, [(0,)]), err
    assert clinic.sql("SELECT count(*) FROM patients") == [(303,)]


def test_what_respond_is_about_must_be_named(clinic: Clinic) -> None:
    ready(clinic)
    for arguments in ([], ["--key", "1", "--kek", "local:kek.json"], ["--key", "no key"], ["--kek", "nothing"], ["--key", "1"]):
        assert clinic.run("respond", "--reason", "a test", *arguments)[0] == 1
    assert clinic.run("respond")[0] == 2
