"""The audit log of a proxy that serves: what is in it, that it is proven, and that nothing was shown before it was there."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fhirclient.models.auditevent import AuditEvent
from psycopg import sql

from phiproxy.audit.fhir import audit_event
from phiproxy.audit.reading import records
from phiproxy.demo.postgres import free_port
from tests.audit.test_anchors import Authority
from tests.harness import waiting
from tests.harness.audit import audited_site, last, log_of, no_secret_is_in, verified
from tests.harness.proxy import ProxyUnderTest, run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site

SSN = "078-05-1120"
INSERT = "INSERT INTO patients (ssn, full_name, city) VALUES (%s, %s, 'Turku')"
BY_TAG = "SELECT ssn, full_name FROM patients WHERE ssn = %s"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A clinic whose proxy has an audit log that is signed each second."""
    with audited_site(postgres_server, tmp_path_factory.mktemp("audited"), "directory: audit, proxy: one, checkpoint: 1s") as site:
        yield site


@pytest.fixture
def conn(site: Site) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(site.proxy_dsn, autocommit=True, application_name="ward") as conn:
        conn.execute("DELETE FROM patients")  # of other tests
        yield conn


Connection = psycopg.Connection[tuple[Any, ...]]


# -- what is recorded -----------------------------------------------------------------------------------------------------------


def test_a_read_says_who_what_and_under_which_key(site: Site, conn: Connection) -> None:
    conn.execute(INSERT, [SSN, "Jane Doe"])
    assert conn.execute(BY_TAG, [SSN]).fetchall() == [(SSN, "Jane Doe")]
    stored, read = log_of(site, kind="execution")[-2:]
    assert stored["columns"] == {"public.patients.ssn": {"stored": 1}, "public.patients.full_name": {"stored": 1}}
    assert (stored["rows"], stored["outcome"], stored["phase"]) == (1, "00000", "whole")
    assert read["columns"] == {"public.patients.ssn": {"opened": 1, "searched": True}, "public.patients.full_name": {"opened": 1}}
    assert read["statement"]["text"] == "SELECT ssn, full_name FROM patients WHERE ssn = ?"
    assert (read["database"], read["login"], read["role"], read["application"]) == (site.sealed, site.role, site.role, "ward")
    assert read["client"].startswith("127.0.0.1:")
    listed = json.loads(site.cli("keys", "list", "--json"))
    ids = {f"{key['id']:08x}" for root in listed for key in root["data_keys"]}
    assert set(read["keys"]) <= ids
    assert set(read["keys"].values()) == {"used"}
    no_secret_is_in(site, SSN, "Jane Doe")


@pytest.mark.parametrize(
    ("statement", "columns", "rows"),
    [
        (f"SELECT ssn FROM patients WHERE ssn = '{SSN}'", {"ssn": {"opened": 2, "searched": True}}, 2),
        (f"SELECT count(*) FROM patients WHERE ssn = '{SSN}'", {"ssn": {"searched": True}}, 1),
        (f"UPDATE patients SET notes = 'well' WHERE ssn = '{SSN}'", {"ssn": {"searched": True}, "notes": {"stored": 1}}, 2),
        (f"DELETE FROM patients WHERE ssn = '{SSN}' RETURNING ssn", {"ssn": {"opened": 2, "searched": True}}, 2),
        ("SELECT ssn FROM patients WHERE false", {}, 0),
    ],
)
def test_each_protocol_says_what_was_done(
    site: Site, conn: Connection, statement: str, columns: dict[str, dict[str, object]], rows: int
) -> None:
    named = {f"public.patients.{name}": done for name, done in columns.items()}
    for simple in (False, True):
        conn.execute("DELETE FROM patients")
        for _ in range(2):
            conn.execute(INSERT, [SSN, "Jane Doe"])
        if simple:
            conn.pgconn.exec_(statement.encode())
        else:
            conn.execute(statement.encode(), prepare=True)
        record = last(site, kind="execution")
        assert (record["columns"], record["rows"]) == (named, rows)
    no_secret_is_in(site, SSN)


def test_several_statements_of_a_string_are_recorded_one_by_one(site: Site, conn: Connection) -> None:
    before = len(log_of(site, kind="execution"))
    conn.pgconn.exec_(f"SELECT 1; SELECT ssn FROM patients WHERE ssn = '{SSN}'; SELECT count(phone) FROM patients".encode())
    texts = [record["statement"]["text"] for record in log_of(site, kind="execution")[before:]]
    assert texts == ["SELECT ssn FROM patients WHERE ssn = ?", "SELECT count(phone) FROM patients"]


def test_an_unprotected_statement_is_not_recorded(site: Site, conn: Connection) -> None:
    before = len(log_of(site))
    conn.execute("SELECT count(*) FROM pg_class").fetchall()
    conn.execute("SELECT generate_series(1, 5000)").fetchall()
    assert len(log_of(site)) == before


def test_a_refusal_shows_no_word_that_may_be_a_value(site: Site, conn: Connection) -> None:
    for statement in (f"SELECT max(ssn) FROM patients WHERE ssn > '{SSN}'", f'SELECT ssn FROM patients WHERE ssn = "{SSN}"'):
        with pytest.raises(psycopg.Error) as refused:
            conn.execute(statement.encode())
        record = last(site, kind="refused")
        assert record["outcome"] == refused.value.sqlstate
        assert record["statement"]["text"].startswith("SELECT ")
    with pytest.raises(psycopg.Error):
        conn.execute("SELECT upper(%s || ssn) FROM patients", [SSN])
    assert last(site, kind="refused")["statement"]["text"] == "SELECT upper(? || ssn) FROM patients"
    with pytest.raises(psycopg.Error):
        conn.execute("SELECT ssn FROM patients WHERE full_name = jane.doe@example.org")
    assert last(site, kind="refused")["statement"]["text"] == "SELECT ssn FROM patients WHERE full_name = ?.? @ ?.?"
    no_secret_is_in(site, SSN)


def test_what_the_server_says_no_to_is_recorded_with_its_sqlstate(site: Site, conn: Connection) -> None:
    conn.execute(INSERT, [SSN, "Jane Doe"])
    before = len(log_of(site, kind="execution"))
    for _ in range(20):
        for parameters in ([], [1]):  # without any it is a simple Query
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute(f"SELECT ssn, {'%s' if parameters else '1'} / (id - id) FROM patients", parameters)
    assert {(record["outcome"], record["phase"]) for record in log_of(site, kind="execution")[before:]} == {("22012", "whole")}


def test_a_copy_counts_its_rows(site: Site, conn: Connection) -> None:
    with conn.cursor().copy("COPY patients (ssn, city) FROM STDIN") as copy:
        for number in range(7):
            copy.write_row((f"{SSN}/{number}", "Turku"))
    assert last(site, kind="execution")["columns"] == {"public.patients.ssn": {"stored": 7}}
    with conn.cursor().copy("COPY patients (ssn) TO STDOUT") as copy:
        assert len(list(copy.rows())) == 7
    record = last(site, kind="execution")
    assert (record["columns"], record["rows"]) == ({"public.patients.ssn": {"opened": 7}}, 7)


def test_a_cursor_is_recorded_by_each_fetch(site: Site, conn: Connection) -> None:
    for number in range(5):
        conn.execute(INSERT, [f"{SSN}/{number}", "Jane Doe"])
    with conn.transaction(), conn.cursor("look") as cursor:
        cursor.execute("SELECT ssn FROM patients")
        assert len(cursor.fetchmany(2)) == 2
        assert last(site, kind="execution")["columns"] == {"public.patients.ssn": {"opened": 2}}
        assert len(cursor.fetchmany(9)) == 3
    assert [r["columns"] for r in log_of(site, kind="execution") if r["columns"].get("public.patients.ssn") == {"opened": 3}]


def test_the_current_role_is_followed(site: Site, conn: Connection) -> None:
    other = f"{site.role}_ward"
    with site.server.connect(site.sealed) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}; GRANT {} TO {}; GRANT SELECT ON patients TO {}").format(
            *map(sql.Identifier, (other, other, site.role, other))
        ))  # fmt: skip
    try:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(other)))
        conn.execute("SELECT ssn FROM patients")
        record = last(site, kind="execution")
        assert (record["login"], record["role"]) == (site.role, other)
        with conn.transaction(force_rollback=True):
            conn.execute("RESET ROLE")
            conn.execute("SELECT ssn FROM patients")
            assert last(site, kind="execution")["role"] == site.role
        conn.execute("SELECT ssn FROM patients")
        assert last(site, kind="execution")["role"] == other
    finally:
        conn.close()
        with site.server.connect(site.sealed) as admin:
            admin.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(sql.Identifier(other), sql.Identifier(other)))


def user(site: Site) -> str | None:
    record = last(site, kind="execution")
    return record["user"]["name"] if "user" in record else None


def test_a_purpose_is_recorded_and_follows_the_transaction(site: Site, conn: Connection) -> None:
    def purpose() -> str | None:
        conn.execute("SELECT ssn FROM public.patients")
        said: str | None = last(site, kind="execution").get("purpose")
        return said

    assert purpose() is None
    conn.execute("SET phiproxy.purpose = 'TREAT'")
    assert purpose() == "TREAT"
    with conn.transaction(force_rollback=True):
        conn.execute("SET LOCAL phiproxy.purpose = 'HRESCH'")
        assert purpose() == "HRESCH"
    assert purpose() == "TREAT"
    with pytest.raises(psycopg.Error):
        conn.execute("SELECT max(ssn) FROM patients")
    assert last(site, kind="refused")["purpose"] == "TREAT"
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="is a code"):
        conn.execute("SET phiproxy.purpose = 'for Jane Doe'")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="is a code"):
        conn.execute("SELECT set_config('phiproxy.purpose', 'for Jane Doe', false)")
    conn.execute("SELECT set_config('phiproxy.purpose', %s, false)", ("ETREAT",))
    assert purpose() == "ETREAT"
    conn.execute("RESET phiproxy.purpose")
    assert purpose() is None


def test_the_end_user_behind_a_pool_is_recorded_and_follows_the_transaction(site: Site, conn: Connection) -> None:
    select = "SELECT ssn FROM public.patients"
    conn.execute(select)
    assert user(site) is None
    conn.execute("SET phiproxy.end_user = 'dr.who'")
    conn.execute(select)
    assert user(site) == "dr.who"
    with conn.transaction():
        conn.execute("SET LOCAL phiproxy.end_user TO 'nurse o''hara'")
        conn.execute(select)
        assert user(site) == "nurse o'hara"
        with conn.transaction(force_rollback=True):
            conn.execute("SET phiproxy.end_user = 'intern'")
            conn.execute(select)
            assert user(site) == "intern"
        conn.execute(select)
        assert user(site) == "nurse o'hara"
    conn.execute(select)
    assert user(site) == "dr.who"
    with pytest.raises(psycopg.Error):
        conn.execute("SELECT max(ssn) FROM patients")
    assert last(site, kind="refused")["user"] == {"how": "asserted", "name": "dr.who"}
    conn.execute("RESET phiproxy.end_user")
    conn.execute(select)
    assert user(site) is None
    conn.execute("SELECT set_config('phiproxy.end_user', 'by function', false)")
    conn.execute(select)
    assert user(site) == "by function"
    assert b"dr.who" not in site.tap.upstream_bytes()
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute("SET phiproxy.end_user = 7")
    with pytest.raises(psycopg.OperationalError, match=r"(?s)cannot be given when connecting.*SET phiproxy.end_user"):
        psycopg.connect(site.proxy_dsn, options="-c phiproxy.end_user=from-the-start")
    assert b"by function" not in site.tap.upstream_bytes()
    assert b"from-the-start" not in site.tap.upstream_bytes()


def test_the_end_user_follows_savepoints(site: Site, conn: Connection) -> None:
    def seen(*statements: str) -> str | None:
        for statement in statements:
            conn.execute(statement.encode())
        conn.execute("SELECT ssn FROM public.patients")
        return user(site)

    assert seen("SET phiproxy.end_user = 'one'", "BEGIN", "SAVEPOINT a", "SET LOCAL phiproxy.end_user = 'two'") == "two"
    assert seen("SAVEPOINT b", "SET LOCAL phiproxy.end_user = 'three'") == "three"
    assert seen("ROLLBACK TO b") == "two"
    assert seen("SET phiproxy.end_user = 'four'", "RELEASE b") == "four"
    assert seen("ROLLBACK TO a") == "one"
    assert seen("SET LOCAL phiproxy.end_user = 'five'", "RELEASE a") == "five"
    with pytest.raises(psycopg.errors.DivisionByZero):
        seen("SAVEPOINT a", "SET LOCAL phiproxy.end_user = 'six'", "SELECT 1 / 0")
    assert seen("ROLLBACK TO a") == "five"
    assert seen("COMMIT") == "one"
    assert seen("BEGIN", "SET phiproxy.end_user = 'seven'", "ROLLBACK") == "one"
    with pytest.raises(psycopg.errors.DivisionByZero):
        psycopg.ClientCursor(conn).execute("SET phiproxy.end_user = 'eight'; SELECT 1 / 0")
    assert seen() == "one"
    assert seen("SET LOCAL phiproxy.end_user = 'nine'") == "one"  # outside of a transaction it does nothing
    assert seen("RESET ALL") is None
    assert seen("SET phiproxy.end_user = 'ten'", "DISCARD ALL") is None


def test_logins_are_recorded_also_those_that_fail(site: Site) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(site.proxy.dsn(site.sealed, site.role, "wrong"))
    # A login shows nothing that is protected, so nobody waits until its record is durable.
    until_recorded(site, kind="login", login=site.role, database=site.sealed, outcome="28P01")
    with psycopg.connect(site.proxy.dsn(site.plain, site.role, site.password)):
        until_recorded(site, kind="login", database=site.plain, outcome="00000")


def until_recorded(site: Site, **fields: object) -> None:
    until = time.monotonic() + 240
    while not log_of(site, **fields):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_done_with_keys_and_policies_is_recorded(site: Site) -> None:
    def key_records() -> list[dict[str, Any]]:
        return [record for record in log_of(site, kind="key") if record["subject"].startswith("data key")]

    before = len(key_records())
    site.cli("keys", "rotate", "--scope", "d:mrn")
    policy = site.directory / "policy.yaml"
    policy.write_text(policy.read_text().replace("distinct: 1000000}", "distinct: 1000001}", 1))
    digest = log_of(site, kind="proxy.started")[0]["policies"][site.sealed]
    assert site.proxy.process is not None
    os.kill(site.proxy.process.pid, 1)
    until = time.monotonic() + 240
    while not (log_of(site, kind="policy.loaded") and len(key_records()) > before):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert last(site, kind="policy.loaded")["policies"][site.sealed] != digest
    events = [record["event"] for record in log_of(site, kind="key")]
    assert events == sorted(set(events))


# -- before it is shown ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_recorded_before_its_first_row_and_behind_its_last(site: Site, conn: Connection) -> None:
    with conn.cursor().copy("COPY patients (ssn, notes) FROM STDIN") as copy:
        for number in range(4000):
            copy.write_row((f"{SSN}/{number}", "x" * 200))
    rows = conn.cursor().stream("SELECT ssn, notes FROM patients", binary=True)
    next(rows)
    begun = last(site, kind="execution", phase="begins")
    assert begun["statement"]["text"] == "SELECT ssn, notes FROM patients"
    count = 1 + len(list(rows))
    ended = last(site, kind="execution")
    assert count == ended["rows"] == 4000
    assert (ended["phase"], ended["execution"]) == ("ends", begun["execution"])
    assert ended["columns"] == {"public.patients.ssn": {"opened": 4000}, "public.patients.notes": {"opened": 4000}}


def test_the_supervisor_signs_for_all_workers_and_their_checkpoints_are_anchored(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    for name in ("tsa", "site"):
        (tmp_path / name).mkdir()
    authority = Authority(tmp_path / "tsa")
    anchor = f"{{tsa: '{authority.url}', every: 1s}}"
    settings = f"directory: audit, proxy: one, checkpoint: 1s, anchor: {anchor}"
    with audited_site(postgres_server, tmp_path / "site", settings, more="workers: 2\n") as site:
        directory = site.directory / "audit"
        for _ in range(6):
            with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
                conn.execute(BY_TAG, [SSN])

        def anchored() -> set[str]:
            return {path.stem for path in directory.glob("*.anchors")}

        waiting.until(lambda: len(anchored()) == 3, "each file is anchored", 240)
        assert len([stem for stem in anchored() if stem.endswith("supervisor")]) == 1

        def signed() -> set[str]:
            return {head["file"] for record in log_of(site, kind="log.heads") for head in record["heads"]}

        waiting.until(lambda: len(signed()) == 2, "the supervisor signs for both workers", 240)
        site.proxy.terminate()
        result = verified(site, "--tsa-root", str(authority.root))
        assert (result["faults"], result["files"]) == ([], 3)
        assert result["anchored"] >= 3
        assert result["proven"] == result["records"]
        (workers_file,) = directory.glob("*.one.1.checkpoints")
        for path in directory.glob(workers_file.stem + ".*"):
            path.unlink()
        faults = verified(site, "--tsa-root", str(authority.root))["faults"]
        assert [fault["file"] for fault in faults] == [workers_file.stem]
    authority.shutdown()
    authority.server_close()


def test_the_report_has_the_numbers_of_the_log(site: Site, conn: Connection) -> None:
    conn.execute(INSERT, [SSN, "Jane Doe"])
    conn.execute("SELECT ssn FROM public.patients")
    out = site.directory / "report.html"
    facts = json.loads(site.cli("report", "--html", str(out), "--json"))
    executions = [record for record in log_of(site, kind="execution") if record["phase"] != "begins"]
    opened = sum(done.get("opened", 0) for record in executions for done in record["columns"].values())
    assert (facts["executions"], facts["opened"]) == (len(executions), opened)
    assert facts["proof"]["genuine"]
    assert any(key[3] == "audit" for key in facts["keys"])
    stored = sum(done.get("stored") or 0 for record in executions for done in record["columns"].values())
    assert sum(read["stored"] for read in facts["reads"]) == stored
    columns = {(column[1], column[4]): column for column in facts["columns"]}
    assert columns["public.patients.ssn", "ssn"][3] == "sealed"
    with site.server.connect(site.sealed) as admin:
        counted = admin.execute("SELECT count(ssn), count(DISTINCT substring(ssn, 13, 16)) FROM patients").fetchone()
    assert tuple(columns["public.patients.ssn", "ssn"][5:7]) == counted
    assert columns["public.patients.notes", ""][5] is None
    page = shown_in_chromium(out) if shutil.which("chromium") else out.read_text()
    assert f"<b>{opened}</b>" in page
    assert f"<b>{len(executions)}</b>" in page
    assert SSN not in page
    done = run_cli("audit", "search", str(site.directory / "audit"), "--column", "ssn", "--kind", "execution", check=True)
    assert done.stdout.count("public.patients.ssn") > 0


def test_the_incident_file_of_a_compromise_says_who_has_read_it(site: Site, conn: Connection) -> None:
    conn.execute(INSERT, [SSN, "Jane Doe"])
    conn.execute(BY_TAG, [SSN])
    (key,) = last(site, kind="execution")["keys"]
    used = [record["columns"] for record in log_of(site, kind="execution") if key in record["keys"]]
    opened = sum(done.get("public.patients.ssn", {}).get("opened", 0) for done in used)
    site.cli("respond", "--key", key, "--reason", "a test", "--report", str(site.directory))
    (path,) = site.directory.glob("incident-*.md")
    lines = path.read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith(f"| {site.role} | public.patients.ssn |")]
    assert [row[3] for row in rows] == [str(opened)]
    heads = [line for line in lines if re.fullmatch(r"- \S+\.one\.[0-9]+: [0-9]+ records, root \S{44}", line)]
    assert len(heads) == 1
    until_recorded(site, kind="key", what="job done")
    jobs = [record for record in log_of(site, kind="key") if record["subject"].startswith("job ")]
    assert [(record["what"], record["from"], record["to"]) for record in jobs] == [
        ("job started", None, "running"),
        ("job done", "running", "done"),
    ]
    (subject,) = {record["subject"] for record in jobs}
    assert re.match(r"job \d+, respond ", subject)
    no_secret_is_in(site, SSN, "Jane Doe")


def shown_in_chromium(page: Path) -> str:
    """Return what a browser makes of a page; it may not fetch anything."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    profile = f"--user-data-dir={page.parent / 'chromium'}"
    done = subprocess.run([*command, profile, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_a_value_that_does_not_open_is_recorded_and_reported(site: Site, conn: Connection) -> None:
    conn.execute(INSERT, [SSN, "Jane Doe"])
    with site.server.connect(site.sealed) as admin:
        admin.execute("UPDATE patients SET ssn = set_byte(ssn, length(ssn) - 1, get_byte(ssn, length(ssn) - 1) # 1)")
    with pytest.raises(psycopg.Error) as broken:
        conn.execute("SELECT ssn FROM patients")
    assert broken.value.sqlstate == "XX001"
    record = last(site, kind="execution")
    assert (record["outcome"], record["statement"]["text"]) == ("XX001", "SELECT ssn FROM patients")
    facts = json.loads(site.cli("report", "--json"))
    assert {"who": site.role, "outcome": "XX001", "statement": "SELECT ssn FROM patients", "times": 1} in facts["failures"]


def test_the_whole_log_is_proven(site: Site) -> None:
    time.sleep(1.5)
    result = verified(site)
    assert result["genuine"], result["faults"]
    assert result["proven"] > 30


def test_every_record_is_r4_for_others(site: Site, conn: Connection) -> None:
    conn.execute(INSERT, [f"{SSN}/r4", "Jane Doe"])
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute("UPDATE patients SET city = full_name")
    kinds = set()
    for record in log_of(site):
        event = json.loads(json.dumps(audit_event(record)))
        assert AuditEvent(event, strict=True).as_json() == event
        kinds.add(record["kind"])
    assert kinds >= {"execution", "refused", "login", "log.opened", "proxy.started"}  # and what other tests have made


def reader(dsn: str, shown: list[int], number: int) -> None:
    """Read one patient after the other until the proxy is gone, and note how many times rows were shown."""
    try:
        with psycopg.connect(dsn, autocommit=True, application_name=f"reader-{number}") as conn:
            while True:
                assert len(conn.execute(BY_TAG, [f"{SSN}/{number}"]).fetchall()) == 1
                shown[number] += 1
    except psycopg.Error:
        return


# PHIPROXY_EXPLORE=1: at a hundred moments.
KILLS = 100 if float(os.environ.get("PHIPROXY_EXPLORE", "0")) else 6


@pytest.mark.slow
@pytest.mark.timeout(600 + 20 * KILLS)
def test_no_row_was_shown_whose_record_is_missing_after_kill_9(site: Site, conn: Connection, tmp_path: Path) -> None:
    readers = 4
    for number in range(readers):
        conn.execute(INSERT, [f"{SSN}/{number}", "Jane Doe"])
    key, chance = site.cli("audit", "key").strip(), random.Random(11)
    for turn in range(KILLS):
        config = site.directory / "doomed.yaml"
        port = free_port()
        text = site.config.read_text().replace(f"127.0.0.1:{site.proxy.port}", f"127.0.0.1:{port}")
        in_memory = turn % 2 == 1 and Path("/dev/shm").is_dir()
        directory = Path(tempfile.mkdtemp(dir="/dev/shm")) if in_memory else tmp_path / str(turn)
        config.write_text(text.replace("directory: audit", f"directory: {directory}"))
        doomed = ProxyUnderTest(config, port, site.directory / "doomed.log", site.env)
        shown = [0] * readers
        with doomed:
            dsn = doomed.dsn(site.sealed, site.role, site.password)
            threads = [threading.Thread(target=reader, args=(dsn, shown, number)) for number in range(readers)]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 240
            while not sum(shown):
                assert time.monotonic() < until
                time.sleep(0.01)
            assert doomed.process is not None
            while in_memory and not writes_itself(doomed.process.pid):
                assert time.monotonic() < until
                time.sleep(0.05)
            time.sleep(chance.random() * 0.5)
            writers = children(doomed.process.pid) if turn % 3 == 1 else []
            doomed.kill()
            for pid in writers:  # which would else write and sign what it was told
                with contextlib.suppress(ProcessLookupError):  # it has already
                    os.kill(pid, signal.SIGKILL)
            for thread in threads:
                thread.join(240)
        if not writers:
            wait_for_end(directory)
        recorded = [0] * readers
        for record in records(directory):
            if record["kind"] == "execution":
                recorded[int(record["application"].removeprefix("reader-"))] += 1
        assert all(r >= s for r, s in zip(recorded, shown, strict=True)), (turn, recorded, shown)
        done = run_cli("audit", "verify", str(directory), "--key", key)
        assert done.returncode == 0, done.stdout
        if in_memory:
            shutil.rmtree(directory)


def writes_itself(pid: int) -> bool:
    """Tell whether a proxy has the open file of its log on a lease: syncs are quick, and it has many records."""
    files: list[str] = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            files.append(os.readlink(descriptor))
    return any(file.endswith(".jsonl") for file in files)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(directory: Path) -> None:
    """Wait for the writer of a proxy that was killed: it writes and signs what it has been told."""
    until = time.monotonic() + 240
    while not any(record["kind"] == "log.closed" for record in records(directory)):
        assert time.monotonic() < until
        time.sleep(0.05)


# -- where nothing takes records ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 8 MB, which holds all that a test has to say, and what it has filled it with."""
    directory = tmp_path_factory.mktemp("small")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(directory)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a file system of a size of its own takes the right to mount one")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("on_failure", ["refuse", "continue"])
def test_a_full_disk(postgres_server: PostgresServer, tmp_path: Path, small_disk: Path, on_failure: str) -> None:
    directory = small_disk / on_failure
    settings = f"directory: {directory}, proxy: one, checkpoint: 1s, on_failure: {on_failure}"
    port = free_port()
    opened = audited_site(postgres_server, tmp_path, settings, metrics=port)
    with opened as site, psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        conn.execute(INSERT, [SSN, "Jane Doe"])
        filler = small_disk / "filler"
        fill(filler)
        if on_failure == "refuse":
            assert until_refused(site, conn, 6000) == "57P03"
            with psycopg.connect(site.proxy_dsn, autocommit=True) as other:
                assert other.execute("SELECT 1").fetchone() == (1,), "what is not protected goes on"
                with pytest.raises(psycopg.OperationalError) as again:
                    until_full(other, filler)
                assert again.value.sqlstate == "57P03"
                assert "audit" in str(again.value)
        else:
            for _ in range(6000):
                assert until_refused(site, conn, 25) is None
                if "phiproxy_audit_broken 1.0" in measured(port):
                    break
            assert until_refused(site, conn, 25) is None
        until_answered(port, 503 if on_failure == "refuse" else 200, b"audit" if on_failure == "refuse" else b"ready")
        waiting.until(lambda: "phiproxy_audit_broken 1.0" in measured(port), "it is measured that nothing takes records", 240)
        assert float(re.findall(r"^phiproxy_audit_lag_seconds (\S+)$", measured(port), re.MULTILINE)[0]) > 0
        filler.unlink()
        until = time.monotonic() + 240
        with psycopg.connect(site.proxy_dsn, autocommit=True) as other:
            while True:
                try:
                    assert other.execute(BY_TAG, [SSN]).fetchall() == [(SSN, "Jane Doe")]
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < until
                    time.sleep(0.2)
        until_answered(port, 200, b"ready")
        log = site.proxy.log_path.read_text()
        assert "the audit log cannot be written" in log
        site.proxy.terminate()
        found = list(records(directory))
        assert found[-1]["kind"] == "log.closed"
        key = site.cli("audit", "key").strip()
        done = run_cli("audit", "verify", str(directory), "--key", key)
        assert done.returncode == 0, done.stdout


def fill(filler: Path) -> None:
    """Take what room is left."""
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(OSError):
        while os.write(descriptor, bytes(4096)):
            pass
    os.close(descriptor)


def until_full(conn: Connection, filler: Path) -> None:
    """Read until that is refused, and take what a file gives back that was left: what had been set aside for it."""
    for _ in range(6000):
        fill(filler)
        conn.execute(BY_TAG, [SSN])


def measured(port: int) -> str:
    """Return what the proxy says to who measures it: with a worker's numbers of a second ago."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        said: str = answer.read().decode()
    return said


def until_answered(port: int, status: int, text: bytes) -> None:
    """Wait until /readyz says so."""
    until = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
                said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.code, error.read()
        if said[0] == status and text in said[1]:
            return
        assert time.monotonic() < until, said
        time.sleep(0.2)


def until_refused(site: Site, conn: Connection, most: int) -> str | None:
    """Read until a statement is refused; returns the SQLSTATE, None when none was."""
    try:
        for _ in range(most):
            assert conn.execute(BY_TAG, [SSN]).fetchall() == [(SSN, "Jane Doe")]
    except psycopg.OperationalError as error:
        return error.sqlstate
    return None
