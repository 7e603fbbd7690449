"""``phiproxy observe``: what would break, told before a byte is changed."""

from __future__ import annotations

import json

from tests.commands.conftest import Clinic

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
