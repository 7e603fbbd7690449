"""``phiproxy recrypt`` on tables in use: every value is right, nothing is under the old keys, and no kill leaves it half done."""

from __future__ import annotations

import json
import random
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from tests.harness.at_work import PAUSE, AtWork
from tests.harness.clinic import Clinic
from tests.harness.proxy import ROOT, command, environment, run_cli
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import done_despite, killed

TABLES = {"patients": ("mrn", "ssn", "full_name", "phone", "address", "notes"), "visits": ("mrn", "diagnosis")}


def load(clinic: Clinic, rows: int) -> None:
    """Fill both twins, the sealed one through the proxy."""
    (diagnosis,) = (clinic.plant(),)
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            for table, columns in (
                ("patients", "mrn, ssn, full_name, phone, address, notes, city"),
                ("visits", "patient_id, mrn, diagnosis"),
            ):
                with conn.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
                    for n in range(1, rows + 1):
                        copy.write_row(
                            (
                                f"M{n}",
                                f"9{n:08}",
                                f"Name {n}",
                                f"+1 {n}",
                                f"Street {n}" * (1 + n % 3),
                                None if n % 7 == 0 else "n" * (n % 200),
                                "X",
                            )
                            if table == "patients"
                            else (n, f"M{n}", diagnosis)
                        )


def keys_in_use(clinic: Clinic) -> set[str]:
    """Return the data keys that stored values name."""
    with clinic.superuser() as conn:
        ids = set()
        for table, columns in TABLES.items():
            for column in columns:
                query = f"SELECT DISTINCT encode(substring({column}, 6, 4), 'hex') FROM {table} WHERE {column} IS NOT NULL"
                ids |= {key for (key,) in conn.execute(query.encode())}
    return ids


def active(site: Site) -> set[str]:
    listed = json.loads(site.cli("keys", "list", "--json"))
    return {f"{key['id']:08x}" for root in listed for key in root["data_keys"] if key["state"] == "active"}


def rotated(clinic: Clinic) -> set[str]:
    """Give every data root its next data key, and return those that values are under and that write no more."""
    clinic.site.cli("keys", "rotate")
    return keys_in_use(clinic)


def test_every_value_moves_to_the_key_that_writes(clinic: Clinic) -> None:
    load(clinic, 600)
    old = rotated(clinic)
    tags = clinic.raw("patients", "ssn")
    assert not old & active(clinic.site)
    (look,) = json.loads(clinic.site.cli("recrypt", "--dry-run", "--json"))
    assert {key["id"] for key in look["keys"] if key["values"]} == old
    out = clinic.site.cli("recrypt")
    assert "is done" in out
    assert keys_in_use(clinic) <= active(clinic.site)
    clinic.assert_twins_equal()
    for before, after in zip(tags, clinic.raw("patients", "ssn"), strict=True):
        assert before is not None
        assert after is not None
        assert before != after
        assert before[12:28] == after[12:28], "the tag is the same"
    with psycopg.connect(clinic.proxy_dsn) as conn:
        assert conn.execute("SELECT id FROM patients WHERE ssn = '900000077'").fetchall() == [(77,)]
    (job,) = [j for j in json.loads(clinic.site.cli("jobs", "--json")) if j["id"] == max_job(clinic.site)]
    assert (job["state"], job["kind"], job["worked_on"]) == ("done", "recrypt", False)
    assert sum(look["rows"].values()) == job["counts"]["written"]
    left = {name: count for name, count in job["counts"].items() if name.startswith("left")}
    assert {f"left {key}" for key in old} <= left.keys()
    assert not any(left.values())
    for key in old:
        clinic.site.cli("keys", "retire", key)
    clinic.assert_twins_equal()


def test_who_still_sees_the_old_values_may_copy_them(clinic: Clinic) -> None:
    """A REPEATABLE READ transaction of before is waited for, and what it has copied follows; so a key is retired behind it only."""
    clinic.seed(20)
    old = rotated(clinic)
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT count(*) FROM patients")
        with at_work(clinic.site, "recrypt") as said:
            assert any("waits: 1 transactions are open that have begun before" in line for line in said)
            assert not keys_in_use(clinic) & old, "all is done that it sees"
            copied = "INSERT INTO visits (patient_id, mrn) SELECT id, mrn FROM patients WHERE mrn IS NOT NULL"
            with psycopg.connect(clinic.plain_dsn) as plain:
                plain.execute(copied.encode())
            conn.execute(copied.encode())
            conn.commit()
            assert any("goes on" in line for line in said)
        assert not keys_in_use(clinic) & old
        conn.execute("SELECT count(*) FROM patients")
        key = min(old)
        with at_work(clinic.site, "keys", "retire", key) as said:
            assert any("waits: 1 transactions" in line for line in said)
            (state,) = {
                data["state"] for root in json.loads(clinic.site.cli("keys", "list", "--json")) for data in root["data_keys"]
                if f"{data['id']:08x}" == key
            }  # fmt: skip
            assert state == "decrypt_only"
            conn.commit()
    clinic.assert_twins_equal()


@contextmanager
def at_work(site: Site, *arguments: str) -> Iterator[Iterator[str]]:
    """Run a command that must succeed, and give the lines that it says on standard error as it says them."""
    process = subprocess.Popen(
        command(*arguments, "-c", str(site.config)), env=environment(site.env), cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    with process.stderr:
        try:
            yield iter(process.stderr)
            rest = process.stderr.read()
            assert process.wait(300) == 0, rest
        finally:
            process.kill()
            process.wait()


def max_job(site: Site) -> int:
    return max(int(job["id"]) for job in json.loads(site.cli("jobs", "--json")))


def test_no_statement_of_it_holds_a_value_or_fires_anything(clinic: Clinic) -> None:
    clinic.seed(40)
    rotated(clinic)
    with clinic.superuser() as conn:
        conn.execute("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$")
        conn.execute("CREATE TRIGGER shouts BEFORE UPDATE ON visits FOR EACH ROW EXECUTE FUNCTION shout()")
        try:
            done = run_cli("recrypt", "-c", str(clinic.site.config), env=clinic.site.env)
            assert done.returncode == 1
            assert "an UPDATE of public.visits would fire shouts" in done.stderr
            assert "GRANT SET ON PARAMETER session_replication_role" in done.stderr
            conn.execute(f"ALTER ROLE {clinic.site.service} SUPERUSER".encode())
            clinic.site.cli("jobs", "resume", str(max_job(clinic.site)))
        finally:
            conn.execute(f"ALTER ROLE {clinic.site.service} NOSUPERUSER".encode())
            conn.execute("DROP TRIGGER shouts ON visits")
            conn.execute("DROP FUNCTION shout")
    assert keys_in_use(clinic) <= active(clinic.site)
    clinic.assert_twins_equal()


def test_what_no_key_opens_is_named_and_all_else_is_done(clinic: Clinic) -> None:
    clinic.seed(30)
    old = rotated(clinic)
    with clinic.superuser() as conn:
        conn.execute("UPDATE patients SET ssn = set_byte(ssn, 70, get_byte(ssn, 70) # 1) WHERE id IN (4, 5)")
    done = run_cli("recrypt", "-c", str(clinic.site.config), env=clinic.site.env)
    assert done.returncode == 1
    assert "2 rows could not be done" in done.stderr
    assert "public.patients, id 4: stored value does not open under data key" in done.stderr
    with clinic.superuser() as conn:
        conn.execute("UPDATE patients SET ssn = NULL WHERE id IN (4, 5)")
    assert keys_in_use(clinic) & old
    assert "is done" in clinic.site.cli("jobs", "resume", str(max_job(clinic.site)))
    assert not keys_in_use(clinic) & old


class Writers(AtWork):
    """An application at work through the proxy: it changes rows at random, and knows what each must be."""

    def __init__(self, clinic: Clinic, rows: int, proxy: str) -> None:
        self.expected: dict[int, str] = {}
        self.errors: list[str] = []
        super().__init__(*(partial(self._run, proxy, rows, n) for n in range(3)))

    def _run(self, dsn: str, rows: int, lane: int) -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as conn:
                while not self._stop.is_set():
                    self._stop.wait(PAUSE)
                    number = 1 + lane + 3 * secrets.randbelow(rows // 3)
                    value = f"7{secrets.randbelow(10**8):08}"
                    if secrets.randbelow(3):
                        conn.execute("UPDATE patients SET ssn = %s WHERE id = %s", (value, number))
                        self.expected[number] = value
                    else:  # a row that moves, with its old envelope
                        conn.execute("UPDATE patients SET visits_count = coalesce(visits_count, 0) + 1 WHERE id = %s", (number,))
        except psycopg.Error as error:
            self.errors.append(str(error))


def test_killed_at_any_moment_with_writers_at_work(clinic: Clinic) -> None:
    rows = 600
    load(clinic, rows)
    old = rotated(clinic)
    with Writers(clinic, rows, clinic.proxy_dsn) as writers:
        kills = done_despite(clinic.site, ["recrypt", "--rate", "400"], killed, 4, random.Random(4), pause=(0.1, 0.8))
        until(lambda: len(writers.expected) > 20 or bool(writers.errors), "they have not written")
    assert kills >= 1
    assert writers.errors == []
    assert not keys_in_use(clinic) & old
    assert len(writers.expected) > 20
    with psycopg.connect(clinic.plain_dsn) as conn:
        for number, value in writers.expected.items():
            conn.execute("UPDATE patients SET ssn = %s WHERE id = %s", (value, number))
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            conn.execute("UPDATE patients SET visits_count = 0")
    clinic.assert_twins_equal()
    with psycopg.connect(clinic.proxy_dsn) as conn:
        for number, value in list(writers.expected.items())[:20]:
            assert (number,) in conn.execute("SELECT id FROM patients WHERE ssn = %s", (value,)).fetchall()


def test_a_job_is_paused_resumed_and_aborted_from_elsewhere(clinic: Clinic) -> None:
    load(clinic, 800)
    old = rotated(clinic)
    site = clinic.site
    process = subprocess.Popen(
        command("recrypt", "--rate", "50", "--json", "-c", str(site.config)), env=environment(site.env), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: Iterator[dict[str, object]] = (json.loads(line) for line in process.stdout)
    assert next(line for line in lines if "rows" in line)["total"] == 1600
    number = str(max_job(site))
    site.cli("jobs", "pause", number)
    assert next(line for line in lines if "waits" in line)["waits"] == f"it is paused: phiproxy jobs resume {number}"
    second = run_cli("recrypt", "-c", str(site.config), env=site.env)
    assert second.returncode == 1
    assert "another job is at work on public.patients" in second.stderr
    site.cli("jobs", "abort", str(max_job(site)))
    assert "goes on in its own process" in site.cli("jobs", "resume", number)
    assert next(line for line in lines if "waits" in line)["waits"] == ""
    site.cli("jobs", "abort", number)
    assert process.wait(120) == 1
    assert process.stderr is not None
    assert f"job {number}, recrypt" in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert keys_in_use(clinic) & old, "it was not done"
    clinic.assert_twins_equal()
    refused = run_cli("jobs", "resume", number, "-c", str(site.config), env=site.env)
    assert "there is nothing to go on with" in refused.stderr


def test_the_dbas_own_query_holds_it_back(clinic: Clinic) -> None:
    clinic.seed(5)
    old = rotated(clinic)
    limit = "SELECT count(*) > 0 FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND objid = 4711"
    with clinic.superuser() as conn:
        conn.execute("SELECT pg_advisory_lock(4711)")
        process = subprocess.Popen(
            command("recrypt", "--throttle-query", limit, "-c", str(clinic.site.config)),
            env=environment(clinic.site.env), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        assert any("waits: --throttle-query says so" in line for line in process.stderr)
        assert keys_in_use(clinic) == old
        conn.execute("SELECT pg_advisory_unlock(4711)")
    assert "goes on" in process.stderr.read()
    assert process.wait(120) == 0
    process.stderr.close()
    assert not keys_in_use(clinic) & old


def test_a_server_that_ends_the_connection_of_a_look_is_told_in_its_words(clinic: Clinic) -> None:
    """Before a job is recorded there is nothing to go on with, but no error of phiproxy's own either."""
    load(clinic, 5)
    rotated(clinic)
    site = clinic.site
    waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with clinic.superuser() as conn, conn.transaction(force_rollback=True):
        conn.execute("LOCK TABLE patients IN ACCESS EXCLUSIVE MODE")
        process = subprocess.Popen(
            command("recrypt", "--dry-run", "-c", str(site.config)),
            env=environment(site.env), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with clinic.superuser() as admin:
            until(lambda: bool(admin.execute(waits.encode()).fetchall()), "the look waits for the table")
            admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({waits}) w".encode())
        assert process.stderr is not None
        with process.stderr:
            said = process.stderr.read()
        assert process.wait(120) == 1
    assert "terminating connection due to administrator command (SQLSTATE 57P01)" in said
    assert "internal error" not in said


def test_a_server_that_ends_the_connection_leaves_a_job_to_go_on_with(clinic: Clinic) -> None:
    """A restart, a failover, an administrator."""
    load(clinic, 500)
    old = rotated(clinic)
    site = clinic.site
    process = subprocess.Popen(
        command("recrypt", "--rate", "50", "--json", "-c", str(site.config)),
        env=environment(site.env), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert any("rows" in json.loads(line) for line in process.stdout)
    with clinic.superuser() as conn:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'phiproxy job%'"
        assert conn.execute(ended.encode()).fetchall() == [(True,)] * 3, "it reads by another one, and asks the registry by a third"
    assert process.wait(120) == 1
    number = max_job(site)
    assert f"phiproxy jobs resume {number}" in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    (job,) = [j for j in json.loads(site.cli("jobs", "--json")) if j["id"] == number]
    assert (job["state"], job["worked_on"]) == ("running", False)
    assert job["counts"]["written"] > 0
    site.cli("jobs", "resume", str(number))
    assert not keys_in_use(clinic) & old
    clinic.assert_twins_equal()
