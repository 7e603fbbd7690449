"""``phiproxy observe``: what would break, told before a byte is changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import EmbeddedPostgres
from tests.commands.conftest import CONFIG, POLICY, Clinic
from tests.harness.server import PostgresServer
from tests.harness.waiting import until

LOG = """\
2026-11-27 12:00:00 UTC [7] LOG:  statement: SELECT note FROM patients WHERE ssn = '123-45-6789'
2026-11-27 12:00:00 UTC [7] LOG:  statement: SELECT note FROM patients WHERE ssn = '987-65-4321'
2026-11-27 12:00:00 UTC [7] LOG:  execute s1: SELECT id FROM patients WHERE left(note, 3) = $1
2026-11-27 12:00:00 UTC [7] DETAIL:  parameters: $1 = 'abc'
2026-11-27 12:00:00 UTC [7] LOG:  statement: SELECT id FROM patients ORDER BY note
2026-11-27 12:00:00 UTC [7] LOG:  statement: SELECT nothing FROM patients
2026-11-27 12:00:00 UTC [7] LOG:  statement: SELECT 1
"""


def test_from_a_log_without_a_registry(clinic: Clinic) -> None:
    log = clinic.directory / "postgresql.log"
    log.write_text(LOG)
    out = clinic.ok("observe", "--from", str(log))
    assert "works            2  SELECT note FROM patients WHERE ssn = ?\n" in out
    assert "refused          1  SELECT id FROM patients WHERE left(note, ?) = $1\n" in out
    assert "works: 1 shapes, sent 2 times\nrefused: 2 shapes, sent 2 times\n" in out
    assert '  public.patients.note:  indexes: ["left(note,3)"]   # beside those it has; 1 sent\n' in out
    assert "123-45" not in out
    assert clinic.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)], "nothing is made"
    told = json.loads(clinic.ok("observe", "--from", str(log), "--json"))
    assert [(s["answer"], s["sent"]) for s in told["statements"]] == [("refused", 1), ("refused", 1), ("works", 2)]
    assert told["indexes"] == {"public.patients.note": {"left(note,3)": 1}}


def test_a_line_of_the_report_makes_it_work(clinic: Clinic) -> None:
    log = clinic.directory / "postgresql.log"
    log.write_text(LOG)
    text = clinic.policy.read_text()
    indexed = '{type: text, indexes: ["left(note,3)"], accept_leakage: x}'
    clinic.policy.write_text(text.replace("{type: text, pad: 64}", indexed))
    assert "works            1  SELECT id FROM patients WHERE left(note, ?) = $1" in clinic.ok("observe", "--from", str(log))


def test_what_an_engine_would_compute(clinic: Clinic) -> None:
    log = clinic.directory / "postgresql.log"
    log.write_text(LOG)
    clinic.config.write_text(clinic.config.read_text() + "compute: {engine: embedded}\n")
    out = clinic.ok("observe", "--from", str(log))
    assert "split            1  SELECT id FROM patients ORDER BY note\n" in out
    assert "split: a part is computed by the proxy: 2 shapes, sent 2 times" in out


def test_sources_that_are_none(clinic: Clinic) -> None:
    code, _, err = clinic.run("observe")
    assert code == 2
    assert "give --from SOURCE, or the command report" in err
    code, _, err = clinic.run("observe", "--from", "nowhere.log")
    assert (code, "nowhere.log: there is no such file" in err) == (1, True)
    empty = clinic.directory / "empty.log"
    empty.write_text("")
    code, _, err = clinic.run("observe", "--from", str(empty))
    assert (code, "has no statement" in err) == (1, True)


def test_a_report_of_nothing(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    assert clinic.ok("observe", "report") == "no statement over a column of the policy was seen\n"
    assert json.loads(clinic.ok("observe", "report", "--json")) == {"statements": [], "indexes": {}}


def test_forget(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql(
        "INSERT INTO phiproxy.observation (digest, shape, answer, sqlstate, reason, hint, indexes, columns, sent)"
        " VALUES (decode(md5('x'), 'hex'), 'SELECT ?', 'works', '', '', '', '{}', '{}', 5)"
    )
    assert "works            5  SELECT ?" in clinic.ok("observe", "report", "--forget")
    assert clinic.ok("observe", "report") == "no statement over a column of the policy was seen\n"


# What is sent, each by two sessions and so often by each, with what a log and what pg_stat_statements must make of it.
WORKLOAD = {
    "SELECT note FROM patients WHERE ssn = 'secret {n}'": (3, "works", "works"),
    "SELECT note FROM patients\r\n WHERE ssn = 'secret\r{n}' -- ''\n AND id = {n}": (2, "works", "works"),
    "INSERT INTO patients (id, ssn) VALUES ({p}, {p}) ON CONFLICT DO NOTHING": (4, "works", "works"),
    "SELECT id FROM patients WHERE right(ssn, 4) = 'LOG:  statement: SELECT ssn FROM patients {n}'": (2, "works", "refused"),
    "SELECT id FROM patients WHERE left(note, 2) = {p}": (5, "refused", "refused"),
    "SELECT id FROM patients ORDER BY note, {n} + id": (1, "refused", "refused"),
    "SELECT normalize(note, NFC) FROM patients": (1, "refused", "refused"),
    "SELECT count(*) FROM pg_class WHERE relname = 'patients {n}'": (2, "", ""),
}


def test_what_a_real_server_has_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sessions one beside the other, in both protocols: exactly what was sent, whatever the log's format."""
    settings = {
        "logging_collector": "on", "log_destination": "stderr,csvlog,jsonlog", "log_directory": "log", "log_filename": "all.log",
        "log_file_mode": "0640", "log_min_duration_statement": "0", "log_line_prefix": "%m [%p] %q%u@%d ",
        "shared_preload_libraries": "pg_stat_statements",
    }  # fmt: skip
    with EmbeddedPostgres(settings=settings) as own:
        monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", own.password)
        (tmp_path / "phiproxy.yaml").write_text(CONFIG.format(host=own.host, port=own.port, user=own.superuser))
        policy = POLICY.format(database="postgres").replace("indexes: [ssn]", 'accept_leakage: x, indexes: [ssn, "right(ssn,4)"]')
        (tmp_path / "policy.yaml").write_text(policy)
        clinic = Clinic(PostgresServer(own.host, own.port, own.superuser, own.password), "postgres", tmp_path, capsys)
        with psycopg.connect(own.dsn(), autocommit=True) as one, psycopg.connect(own.dsn(), autocommit=True) as other:
            one.execute("SET log_min_duration_statement TO -1; CREATE EXTENSION pg_stat_statements")
            one.execute("CREATE TABLE patients (id int PRIMARY KEY, ssn text, note text)")
            one.execute("SELECT pg_stat_statements_reset(); RESET log_min_duration_statement")
            one.prepare_threshold, other.prepare_threshold = None, 0  # as a simple query and by name
            for text, (times, _, _) in WORKLOAD.items():
                for n in range(times):
                    for conn in (one, other):
                        parameters = [str(n) for _ in range(text.count("{p}"))] or None
                        conn.execute(text.format(n=n, p="%s").encode(), parameters)

        def told(source: str) -> Counter[str]:
            code, out, _ = clinic.run("observe", "--from", source, "--json")
            counts: Counter[str] = Counter()
            for entry in json.loads(out)["statements"] if code == 0 else []:
                counts[entry["answer"]] += entry["sent"]
            assert "secret" not in out
            return counts

        def expected(answer: Callable[[tuple[int, str, str]], str]) -> Counter[str]:
            counts: Counter[str] = Counter()
            for each in WORKLOAD.values():
                counts[answer(each)] += 2 * each[0]
            del counts[""]
            return counts

        sent = expected(lambda each: each[1])
        for name in ("all.log", "all.csv", "all.json"):
            until(partial(lambda path: told(path) == sent, str(own.data / "log" / name)), f"{name} has what was sent", 240)
        assert told("pg_stat_statements") == expected(lambda each: each[2])
        out = clinic.ok("observe", "--from", "pg_stat_statements")
        assert "; with a constant it may be answered: the server's log tells" in out
        assert "pg_stat_statements has $1 where SQL wants a word" in out
