"""Fields of documents in the audit log, behind masks, and under a policy that says otherwise what of them is in clear."""

from __future__ import annotations

import json
import signal
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.harness.audit import last, no_secret_is_in
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until

POLICY = """\
database: {database}
deployment: fields-seen
tenant: {from: parameter, name: app.tenant}
tables:
  public.charts:
    subject: id
    columns:
      doc:
        type: jsonb
        fields:
          "$.ssn":             {type: text, indexes: [value], distinct: 100000000}
          "$.history[*].note": {type: text}
        others: clear
      closed:
        type: jsonb
        fields: {"$.ssn": {type: text}}
        others: sealed
        clear: ["$.ward"]
access:
  rules:
    - {roles: [fields_nurse], columns: [public.charts.doc], show: "null"}
    - {roles: [fields_nurse], columns: [public.charts.closed], show: deny}
    - {roles: [fields_clerk], fields: {public.charts.doc: ["$.ssn"]}, show: pseudonym}
    - {roles: [fields_clerk], fields: {public.charts.doc: ["$.history[*].note"]}, show: "null"}
  break_glass: {roles: [fields_clerk], minutes: 60, reason: required}
"""
DDL = "CREATE TABLE charts (id int PRIMARY KEY, doc jsonb, closed jsonb);"
SECRET = "078-05-1120"
DOC = {"ssn": SECRET, "history": [{"note": SECRET}, {"note": "n"}], "ward": "B2"}
CLOSED = {"ssn": SECRET, "ward": "W", "of the patient's own": {"Jane Doe": SECRET}}
Connection = psycopg.Connection[tuple[Any, ...]]
ROLES = ("fields_nurse", "fields_clerk")


def connect(site: Site, role: str = "", tenant: str = "one") -> Connection:
    """Connect as a role, or as the owner, for a tenant."""
    dsn = site.proxy.dsn(site.sealed, role, "of a role") if role else site.proxy_dsn
    return psycopg.connect(dsn, autocommit=True, options=f"-c app.tenant={tenant}")


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with postgres_server.connect() as conn:
        for role in ROLES:
            conn.execute(f"DROP ROLE IF EXISTS {role}".encode())
    for role in ROLES:
        postgres_server.create_role(role, "of a role")
    directory = tmp_path_factory.mktemp("seen")
    audit = "audit: {directory: audit, proxy: one}\n"
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL, settings=audit, serve=False) as site:
        site.cli("keys", "init")
        site.proxy.start()
        with site.server.connect(site.sealed) as conn:
            conn.execute("GRANT SELECT ON charts TO fields_nurse, fields_clerk")
        with connect(site) as conn:
            conn.execute("INSERT INTO charts VALUES (1, %s, %s), (2, NULL, NULL)", [Jsonb(DOC), Jsonb(CLOSED)])
        yield site


@pytest.fixture
def conn(site: Site) -> Iterator[Connection]:
    with connect(site) as conn:
        yield conn


READ = {
    "SELECT doc FROM charts": {"doc$.ssn", "doc$.history[*].note"},
    "SELECT doc->>'ssn' FROM charts": {"doc$.ssn"},
    "SELECT doc->'history' FROM charts": {"doc$.history[*].note"},
    "SELECT id FROM charts WHERE doc->>'ssn' = '078-05-1120'": {"doc$.ssn"},
    "SELECT closed FROM charts": {"closed$.ssn", "closed"},
}


@pytest.mark.parametrize("statement", READ)
def test_records_name_the_fields_that_were_opened_or_searched(site: Site, conn: Connection, statement: str) -> None:
    conn.execute(statement.encode())
    named = last(site, kind="execution")["columns"]
    assert {name.removeprefix("public.charts.") for name in named if "$" in name or "closed" in name} == READ[statement]
    no_secret_is_in(site, SECRET, "Jane Doe")


def test_what_is_in_clear_is_read_of_nobody_s_fields(conn: Connection) -> None:
    assert conn.execute("SELECT doc->>'ward', closed->>'ward' FROM charts WHERE id = 1").fetchall() == [("B2", "W")]


def test_a_masked_document_is_only_shown(site: Site) -> None:
    with connect(site, "fields_nurse") as conn:
        only_shown(conn)


def test_masks_of_fields_are_made_and_lifted_for_each_tenant(site: Site) -> None:
    """A pseudonym of the same number is another one for another tenant, and nobody sees behind the mask of another's."""
    query = "SELECT doc->>'ssn', doc FROM charts WHERE id = %s"
    seen = {}
    with connect(site, tenant="two") as two:
        two.execute("INSERT INTO charts VALUES (3, %s)", [Jsonb(DOC)])
        try:
            for tenant, own, other in (("one", 1, 3), ("two", 3, 1)):
                with connect(site, "fields_clerk", tenant) as clerk:
                    ((seen[tenant], document),) = clerk.execute(query, [own]).fetchall()
                    assert document == {**DOC, "ssn": seen[tenant], "history": [{"note": None}, {"note": None}]}
                    done = last(site, kind="execution", role="fields_clerk")["columns"]
                    assert done == {"public.charts.doc$.ssn": {"masked": 2}, "public.charts.doc$.history[*].note": {"masked": 2}}
                    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of another tenant"):
                        clerk.execute(query, [other])
                    clerk.execute("SET phiproxy.reason = 'ambulance'")
                    assert clerk.execute(query, [own]).fetchall() == [(SECRET, DOC)]
                    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of another tenant"):
                        clerk.execute(query, [other])
        finally:
            two.execute("DELETE FROM charts WHERE id = 3")
    assert len({*seen.values(), SECRET}) == 3
    no_secret_is_in(site, SECRET)


def test_fields_are_in_what_is_exported_and_reported(site: Site, conn: Connection) -> None:
    conn.execute("SELECT id, doc->>'ssn' FROM charts WHERE id = 1")
    directory, done = str(site.directory / "audit"), "public.charts.doc$.ssn (opened 1)"
    spelled = {"jsonl": '"public.charts.doc$.ssn":{"opened":1}', "fhir": done, "atna": b64encode(done.encode()).decode()}
    for form, expected in spelled.items():
        assert expected in run_cli("audit", "export", directory, "--format", form, "--column", "doc$.ssn").stdout, form
    assert done in site.cli("audit", "subject", "1")
    facts = json.loads(site.cli("report", "--json"))
    assert "public.charts.doc$.ssn" in {read["column"] for read in facts["reads"]}
    columns = {(column[1], column[4]): column[3:4] + column[5:7] for column in facts["columns"]}
    assert columns["public.charts.doc$.ssn", "value"] == ["sealed", 1, 1]
    assert columns["public.charts.doc$.history[*].note", ""] == ["sealed", None, None]


def only_shown(conn: Connection) -> None:
    assert conn.execute("SELECT id, doc FROM charts ORDER BY id").fetchall() == [(1, None), (2, None)]
    for statement in (
        "SELECT doc->>'ssn' FROM charts",
        "SELECT doc->>'ward' FROM charts",
        "SELECT id FROM charts WHERE doc->>'ssn' = '078-05-1120'",
        "SELECT id FROM charts WHERE doc->>'ward' = 'B2'",
        'SELECT id FROM charts WHERE doc @> \'{"ward": "B2"}\'',
        "SELECT id FROM charts WHERE doc ? 'ssn'",
        "SELECT closed FROM charts",
        "SELECT closed->>'ward' FROM charts",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement.encode())


CLEAR = 'others: sealed\n        clear: ["$.ward"]'


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (
            'others: sealed\n        clear: ["$.at"]',
            "$.ward is in clear in them; $.at is sealed in them. Its documents must be rewritten",
        ),
        ("others: sealed", "`clear` is not what its documents were stored with: $.ward is in clear in them"),
        ("others: clear", "its documents were stored with `others: sealed`, the policy says `others: clear`"),
    ],
)
def test_a_policy_that_says_otherwise_what_is_in_clear_is_not_taken(site: Site, conn: Connection, now: str, said: str) -> None:
    """What was stored in clear would not open, and what is sealed would be shown as if it were the value."""
    path, log = site.directory / "policy.yaml", site.proxy.log_path
    before = path.read_text()
    assert CLEAR in before
    path.write_text(before.replace(CLEAR, now))
    try:
        assert said in run_cli("check", "-c", str(site.config), env=site.env).stdout
        refused = log.read_text().count("reload failed, nothing changed")
        assert site.proxy.process is not None
        site.proxy.process.send_signal(signal.SIGHUP)
        until(lambda: log.read_text().count("reload failed, nothing changed") > refused, "the proxy has taken the policy")
        assert conn.execute("SELECT closed FROM charts WHERE id = 1").fetchall() == [(CLOSED,)]
    finally:
        path.write_text(before)
