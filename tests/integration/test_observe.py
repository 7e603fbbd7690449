"""A table full of plaintext behind the proxy: every statement passes as it comes, and what would become of it is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until

POLICY = """\
database: {database}
deployment: observe-test
tables:
  public.patients:
    columns:
      ssn:   {type: text, indexes: [ssn], distinct: 1000000}
      name:  {type: text, indexes: [name], distinct: 1000000}
      born:  {type: date}
"""
TABLES = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE, name text, born date, city text DEFAULT 'Graz');
CREATE TABLE rooms (id int PRIMARY KEY, name text);
"""
FILLED = (
    TABLES
    + """\
CREATE VIEW adults AS SELECT id, ssn FROM patients;
INSERT INTO patients SELECT n, 'secret-ssn-' || n, 'Ann ' || n, date '1980-01-01' + n FROM generate_series(1, 50) n;
"""
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(postgres_server, tmp_path_factory.mktemp("observe"), policy=POLICY, ddl=FILLED) as site:
        yield site


def report(site: Site) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads(site.cli("observe", "report", "--json"))["statements"]
    return statements


def observed(site: Site, part: str, sent: int = 1) -> dict[str, Any]:
    """Return what the report says of the shape with a part, once it was sent so often."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        entries = [entry for entry in report(site) if part in entry["shape"]]
        if sum(entry["sent"] for entry in entries) >= sent:
            assert len(entries) == 1, entries
            return entries[0]
        time.sleep(0.2)
    raise AssertionError(f"{part!r} was not observed so often: {report(site)}")


def test_statements_pass_as_they_come(site: Site) -> None:
    """With the answers of the server, its errors among them."""
    queries = [
        "SELECT * FROM patients ORDER BY id LIMIT 3",
        "SELECT name || '!' FROM patients WHERE ssn > 'secret-ssn-4' ORDER BY ssn",
        "INSERT INTO patients VALUES (1000, 'x', 'y', now()) RETURNING *",
        "UPDATE patients SET ssn = upper(ssn) WHERE id = 1000 RETURNING ssn, city",
        "SELECT patients::text FROM patients WHERE id = 1000",
        "SELECT ssn FROM adults WHERE id = 1000",
        "DELETE FROM patients WHERE id = 1000",
    ]
    with psycopg.connect(site.plain_dsn, autocommit=True) as plain, psycopg.connect(site.proxy_dsn, autocommit=True) as proxy:
        for query in queries:
            direct, through = plain.execute(query.encode()), proxy.execute(query.encode())
            described = [[(c.name, c.type_code) for c in cursor.description or ()] for cursor in (direct, through)]
            assert direct.statusmessage == through.statusmessage
            assert described[0] == described[1]
            if direct.description:
                assert direct.fetchall() == through.fetchall(), query
        for conn in (plain, proxy):
            with pytest.raises(psycopg.errors.UndefinedColumn, match=r'^column "nam" does not exist'):
                conn.execute("SELECT nam FROM patients WHERE ssn = 'x'")


def test_what_works_and_what_does_not(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        for n in range(5):
            conn.execute("SELECT id FROM patients WHERE ssn = %s", (f"secret-ssn-{n}",))
            conn.execute(f"SELECT id, born FROM patients WHERE name LIKE 'secret-ssn-{n}%' /* of secret-ssn-{n} */")
        conn.execute("SELECT count(*) FROM patients WHERE ssn LIKE '%secret-ssn-2%'")
        conn.execute("SELECT id FROM rooms WHERE name = 'secret-ssn-1'")
    equal = observed(site, "SELECT id FROM patients WHERE ssn = $1", 5)
    assert (equal["answer"], equal["sent"], equal["columns"]) == ("works", 5, ["public.patients.ssn"])
    prefix = observed(site, "SELECT id, born FROM patients WHERE name LIKE", 5)
    assert (prefix["answer"], prefix["sqlstate"], prefix["sent"]) == ("refused", "0A000", 5)
    assert prefix["shape"] == "SELECT id, born FROM patients WHERE name LIKE ?"
    assert prefix["indexes"] == ["public.patients.name: left(name,12)"]
    inside = observed(site, "SELECT count(*) FROM patients WHERE ssn LIKE")
    assert (inside["answer"], inside["indexes"]) == ("refused", [])
    assert inside["hint"]
    assert not any("rooms" in entry["shape"] for entry in report(site)), "nothing of the policy is in it"
    for where in (site.cli("observe", "report"), json.dumps(report(site))):
        assert "secret-ssn" not in where, "no value is kept"
    assert 'public.patients.name:  indexes: ["left(name,12)"]' in site.cli("observe", "report")


# What is sent of a workload, with what the report must say of it: the answer, how often, and the indexes that would help.
KNOWN = {
    "SELECT id AS known FROM patients WHERE ssn = $1": ("works", 130, []),  # more than are analysed one by one
    "UPDATE patients AS known SET born = NULL WHERE ssn = ?": ("works", 5, []),
    "SELECT born AS known FROM patients WHERE name LIKE ?": ("refused", 7, ["public.patients.name: left(name,12)"]),
    "SELECT count(*) AS known FROM patients WHERE lower(name) = $1": ("refused", 4, ["public.patients.name: lower(name)"]),
}


def test_counts_are_those_of_a_known_workload(site: Site) -> None:
    """Of two sessions, in both protocols; and they stay so while others are counted."""

    def known() -> dict[str, tuple[str, int, list[str]]]:
        return {e["shape"]: (e["answer"], e["sent"], e["indexes"]) for e in report(site) if "AS known" in e["shape"]}

    with psycopg.connect(site.proxy_dsn, autocommit=True) as one, psycopg.connect(site.proxy_dsn, autocommit=True) as other:
        one.prepare_threshold = other.prepare_threshold = None
        for shape, (_, times, _) in KNOWN.items():
            for n in range(times):
                conn = other if n % 2 else one
                if "$1" in shape:
                    conn.execute(shape.replace("$1", "%s").encode(), (f"value-of-{n}",))
                else:
                    conn.execute(shape.replace("?", f"'value-of-{n:03}{'%' * ('LIKE' in shape)}'").encode())
        until(lambda: known() == KNOWN, "the report does not say what was sent", 240)
        one.execute("SELECT ssn AS the_last FROM patients LIMIT 1")
    observed(site, "the_last")
    assert known() == KNOWN


def test_prepared_by_name_scripts_and_views(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        conn.execute("PREPARE s (text) AS SELECT born FROM patients WHERE name = $1")
        assert conn.execute("EXECUTE s ('Ann 2')").fetchall()
        conn.execute("BEGIN; SELECT name FROM patients WHERE born > '1990-01-01'; COMMIT")
        conn.execute("SELECT ssn FROM adults WHERE ssn = 'x'")
        with conn.cursor().copy("COPY patients (id, ssn) TO STDOUT") as copy:
            assert b"secret-ssn-1\n" in b"".join(bytes(part) for part in copy)
    assert observed(site, "PREPARE s")["answer"] == "works"
    assert observed(site, "born > ?")["answer"] == "refused"
    assert observed(site, "FROM adults WHERE ssn = ?")["answer"] == "works"
    assert observed(site, "COPY patients")["answer"] == "works"


def test_it_says_so(site: Site) -> None:
    done = site.cli("check", check=False)
    assert "public.patients.ssn is in clear: statements over it are observed, not protected" in done
    assert "columns are in clear: they are observed, not protected" in site.proxy.log_path.read_text()
    assert site.cli("ddl").splitlines()[-1] == "-- nothing to do: the tables are as the policy needs them"


def test_a_type_that_is_changed_past_the_proxy_puts_nothing_in_clear(site: Site, tmp_path: Path) -> None:
    """Only what the registry lets be in clear is: a column that was sealed stays protected, whatever its table looks like."""
    policy = POLICY.replace("observe-test", "seal-test")
    with open_site(site.server, tmp_path, policy=policy, ddl=TABLES) as sealed:
        with sealed.server.connect(sealed.sealed) as owner:
            owner.execute("ALTER TABLE patients DROP CONSTRAINT phi_guard_name")
            owner.execute("ALTER TABLE patients ALTER COLUMN name TYPE text USING 'x'")
        end = time.monotonic() + 240
        while "no longer fits its policy" not in sealed.proxy.log_path.read_text() and time.monotonic() < end:
            time.sleep(0.1)
        with psycopg.connect(sealed.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO patients (id, name) VALUES (1, 'in clear')")
        with sealed.server.connect(sealed.sealed) as owner:
            assert owner.execute("SELECT left(name, 8) FROM patients").fetchall() == [("\\xf55001",)], "the text of an envelope"
        sealed.proxy.terminate()
        with pytest.raises(AssertionError, match="is text, not bytea"):
            sealed.proxy.start()


def test_a_table_of_both(site: Site, tmp_path: Path) -> None:
    """One column sealed and one in clear: the first is protected, the second is as it was, and both are analysed as if sealed."""
    later = POLICY.replace("observe-test", "mixed-test")
    first = "\n".join(line for line in later.splitlines() if "name:" not in line and "born:" not in line) + "\n"
    with open_site(site.server, tmp_path, policy=first, ddl=TABLES) as mixed:
        with psycopg.connect(mixed.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO patients (id, ssn, name) VALUES (1, 'secret-ssn-1', 'Ann 1')")
        (tmp_path / "policy.yaml").write_text(later.replace("{database}", mixed.sealed))
        mixed.cli("keys", "init")
        mixed.proxy.terminate()
        mixed.proxy.start()
        with psycopg.connect(mixed.proxy_dsn, autocommit=True) as conn:
            rows = conn.execute("SELECT ssn, name FROM patients WHERE ssn = 'secret-ssn-1' AND name LIKE 'Ann%'").fetchall()
            assert rows == [("secret-ssn-1", "Ann 1")]
            conn.execute("INSERT INTO patients (id, ssn, name) VALUES (2, 'secret-ssn-2', 'Ben 2')")
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute("SELECT id FROM patients WHERE ssn > 'a'")
        with mixed.server.connect(mixed.sealed) as owner:
            stored = owner.execute("SELECT left(encode(ssn, 'hex'), 6), name FROM patients ORDER BY id").fetchall()
        assert stored == [("f55001", "Ann 1"), ("f55001", "Ben 2")]
        assert observed(mixed, "AND name LIKE ?")["answer"] == "refused"
        assert observed(mixed, "INSERT INTO patients")["answer"] == "works"
