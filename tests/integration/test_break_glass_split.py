"""The time of a reason ends while statements are under way: each is answered and recorded with the reason, or refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.harness.audit import log_of
from tests.harness.backend import Backend
from tests.harness.server import PostgresServer
from tests.harness.waiting import until
from tests.integration.masked_site import POLICY, MaskedSite, open_masked_site
from tests.integration.test_masks import INSERT, MASKED, ROW, SSN
from tests.session.frames import query, values

ACCESS = "  break_glass: {roles: [mask_nurse], minutes: 1}\n"
WRITES = {
    "of a masked value": "UPDATE people SET name = upper(ssn) WHERE id = 1",
    "of another": "UPDATE people SET name = upper(name) WHERE id = 1 AND ssn LIKE '%1120'",
    "that returns it": "UPDATE people SET name = upper(name) WHERE id = 1 RETURNING upper(ssn)",
    "of rows that a write returns": (
        "WITH x AS (UPDATE people SET name = upper(name) WHERE id = 1 RETURNING id)"
        " SELECT upper(p.ssn) FROM x JOIN people p USING (id)"
    ),
    "deleted": "DELETE FROM people WHERE id = 1 AND ssn ILIKE '%1120'",
}
SPLIT_READ = "SELECT upper(ssn) FROM people WHERE id = 1 FOR UPDATE"
READ = "SELECT ssn FROM people, pg_sleep(10) WHERE id = 1"


@pytest.fixture(scope="module")
def masked(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path
) -> Iterator[MaskedSite]:
    settings = f"compute: {{engine: embedded, directory: {engine_directory}, limits: {{rows: 500, sessions: 4, timeout: 300s}}}}\n"
    settings += "audit: {directory: audit, proxy: one}\n"
    directory = tmp_path_factory.mktemp("glass-split")
    with open_masked_site(postgres_server, directory, policy=POLICY + ACCESS, settings=settings) as masked:
        with masked.as_owner() as conn:
            conn.execute(INSERT, ROW)
        yield masked


def executions(masked: MaskedSite, reason: str) -> list[tuple[str, str | None, dict[str, object]]]:
    """Return what the session that gave a reason has done since: the kind of the record, the reason in it, the columns."""
    (glass,) = log_of(masked.site, kind="break_glass", reason=reason)
    own = log_of(masked.site, session=glass["session"])
    own = [record for record in own if record["kind"] in ("execution", "refused") and record.get("phase") != "begins"]
    return [(record["kind"], record.get("reason"), record["columns"]) for record in own]


def test_what_is_under_way_when_the_time_is_over(masked: MaskedSite) -> None:
    """A write whose rows come behind the end is refused, whatever it would write; what was sent before it has the reason."""
    answers: dict[str, str] = {}

    def run(name: str, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        try:
            answers[name] = str(conn.execute(statements[name].encode(), prepare=False).fetchall())
        except psycopg.Error as error:
            answers[name] = str(error.sqlstate)
        conn.close()

    statements = {**WRITES, "a split read": SPLIT_READ}
    nurses = {name: psycopg.connect(masked.dsn("mask_nurse"), autocommit=True) for name in statements}
    threads = [threading.Thread(target=run, args=each) for each in nurses.items()]
    with closing(Backend(masked.dsn("mask_nurse"))) as reader, masked.site.server.connect(masked.site.sealed) as holder:
        stored = holder.execute("SELECT * FROM people").fetchall()
        for name, nurse in nurses.items():
            nurse.execute(f"SET phiproxy.reason = '{name}'".encode())
        reader.says([query("SET phiproxy.reason = 'a read'")])
        given = time.monotonic()
        holder.execute("BEGIN")
        holder.execute("SELECT FROM people FOR UPDATE")
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with masked.site.server.connect() as other:
            until(lambda: other.execute(waiting).fetchone() == (len(statements),), "all of them wait for the row")
        time.sleep(max(0.0, given + 56 - time.monotonic()))
        reader._socket.sendall(query(READ))
        time.sleep(max(0.0, given + 61 - time.monotonic()))
        shown = reader.says([query("SELECT ssn FROM people WHERE id = 1")])  # said while the one before is at work
        holder.rollback()
        for thread in threads:
            thread.join()
        assert holder.execute("SELECT * FROM people").fetchall() == stored
    assert answers == {**dict.fromkeys(WRITES, "42501"), "a split read": str([(SSN,)])}
    for name in WRITES:
        done = executions(masked, name)
        assert [(kind, reason) for kind, reason, _ in done] == [("execution", name), ("refused", None)], name
    opened = "execution", {"public.people.ssn": {"opened": 1}}
    assert executions(masked, "a split read") == [(opened[0], "a split read", opened[1])]
    assert [values(frame) for frame in shown if frame[:1] == b"D"] == [[SSN.encode()], [MASKED.encode()]]
    assert executions(masked, "a read") == [
        (opened[0], "a read", opened[1]),
        ("execution", None, {"public.people.ssn": {"masked": 1}}),
    ]
