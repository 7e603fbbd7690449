"""``phiproxy check`` on a real database."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Clinic
from tests.net.certificates import Papers, tls_server


def findings(clinic: Clinic) -> tuple[int, list[dict[str, Any]]]:
    code, out, _ = clinic.run("check", "--json")
    return code, json.loads(out)


def errors(clinic: Clinic) -> list[str]:
    code, found = findings(clinic)
    assert code == 1
    return [f["text"] for f in found if f["level"] == "error"]


def ready(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))


def test_all_is_well(clinic: Clinic) -> None:
    ready(clinic)
    code, found = findings(clinic)
    assert code == 0
    topics = [f["topic"] for f in found if f["level"] == "ok"]
    assert topics[:5] == ["configuration", "keys", "registry", "policy", "guard"]
    texts = " ".join(f["text"] for f in found if f["topic"] == "leakage")
    assert "which rows have equal values" in texts
    assert "public.patients.note: of each value only its length up to the next 64 bytes" in texts
    assert "is there" not in texts
    assert "are the same envelope in each of them" in texts
    assert any(f["topic"] == "collation" and f["level"] == "ok" for f in found)
    assert "guards and tag indexes are there" in clinic.ok("check")


def test_nothing_is_initialised(clinic: Clinic) -> None:
    (text,) = errors(clinic)
    assert "no key registry" in text


def test_no_ddl_was_run(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    assert errors(clinic) == [
        f"{clinic.policy}:6:7: public.patients.ssn is text, not bytea: run `phiproxy ddl`",
        f"{clinic.policy}:7:7: public.patients.note is text, not bytea: run `phiproxy ddl`",
    ]


def test_guard_and_index_are_missed(clinic: Clinic) -> None:
    ready(clinic)
    clinic.sql("ALTER TABLE patients DROP CONSTRAINT phi_guard_note; DROP INDEX patients_ssn_key")
    (guard,) = errors(clinic)
    assert "public.patients.note has no valid guard phi_guard_note" in guard
    # A table that a migration made through the proxy need not have one yet: it is right without, and slow.
    (index,) = (f["text"] for f in findings(clinic)[1] if f["level"] == "warning" and f["topic"] == "index")
    assert "public.patients.ssn has no server index for @" in index


def test_measured_leakage(clinic: Clinic) -> None:
    """Twenty tags among ten thousand values: refused until somebody answers for it."""
    ready(clinic)
    clinic.sql("DROP INDEX patients_ssn_key; ALTER TABLE patients DROP CONSTRAINT phi_guard_ssn")
    clinic.sql(
        "INSERT INTO patients SELECT g, decode(repeat('00', 11) || '01', 'hex') || decode(md5((g % 20)::text), 'hex'), NULL"
        " FROM generate_series(1, 10000) g"
    )
    assert any("only 20 distinct values among 10000 (below 1000)" in text for text in errors(clinic))
    text = clinic.policy.read_text()
    clinic.policy.write_text(text.replace("distinct: 100000", 'accept_leakage: "officer, 2026: study"'))
    _, found = findings(clinic)
    assert not any(f["level"] == "error" and f["topic"] == "leakage" for f in found)
    assert any('accepted: "officer, 2026: study"' in f["text"] for f in found)


def test_another_collation_than_was_compared(clinic: Clinic) -> None:
    ready(clinic)
    clinic.rewrite("""UPDATE phiproxy.meta SET "collation" = jsonb_set("collation"::jsonb, '{collation}', '"of another server"')""")
    code, found = findings(clinic)
    assert code == 0
    assert ["run `phiproxy keys init`" in f["text"] for f in found if f["topic"] == "collation"] == [True]
    clinic.ok("keys", "init")
    assert [f["level"] for f in findings(clinic)[1] if f["topic"] == "collation"] == ["ok"]
    changed = "jsonb_set(\"collation\"::jsonb, '{differing}', '[196]')"
    clinic.rewrite(f'UPDATE phiproxy.meta SET "collation" = {changed}')
    (text,) = errors(clinic)
    assert "maps case in another way than was recorded" in text


def test_the_servers_log_settings_are_warnings(clinic: Clinic) -> None:
    ready(clinic)
    clinic.sql(f"ALTER DATABASE \"{clinic.database}\" SET log_statement = 'all'")
    code, found = findings(clinic)
    assert code == 0
    (line,) = [f for f in found if f["text"].startswith("log_statement = all")]
    assert line["level"] == "warning"
    assert "envelopes and tags only" in line["text"]


def test_how_clients_log_in(clinic: Clinic, tmp_path: Path) -> None:
    ready(clinic)
    said = "auth.mode passthrough, TLS to clients: disable, TLS to the server: disable, idle connections are not ended"
    assert said in clinic.ok("check")
    config = clinic.config.read_text()
    clinic.config.write_text(config + "auth: {mode: scram}\n")
    assert "auth.mode scram, TLS to clients: disable" in clinic.ok("check")
    clinic.config.write_text(config + "auth: {mode: scram, verifiers: absent}\n")
    (text,) = errors(clinic)
    assert "auth.verifiers" in text
    assert "cannot be read" in text


def test_two_certificates_are_noticed(clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = Papers.made(tmp_path)
    with tls_server(papers.server) as server:
        monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", server.password)
        clinic.config.write_text(
            f"upstream: {{address: '127.0.0.1:{server.port}', tls: require}}\npolicies: [policy.yaml]\n"
            f"tls: {{certificate: {papers.proxy.certificate}, private_key: {papers.proxy.key}}}\n"
            f"service: {{user: {server.superuser}}}\n"
        )
        (text,) = (text for text in errors(clinic) if "does not exist" not in text)  # the clinic's database is elsewhere
    assert "different certificates" in text
    assert "auth: {mode: scram}" in text


def test_a_broken_file_is_told_by_lines(clinic: Clinic) -> None:
    clinic.policy.write_text("databse: x\n")
    code, out, err = clinic.run("check")
    assert (code, out) == (1, "")
    told = f"phiproxy: {clinic.policy}:1:1: unknown key 'databse'; did you mean 'database'?"
    assert [line.partition(" (docs/errors.md#")[0] for line in err.splitlines()][-1] == told
