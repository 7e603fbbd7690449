"""Random walks through roles, transactions and savepoints: what is shown is always what the role of that moment sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.explore import EXPLORE
from tests.harness.server import PostgresServer
from tests.integration.masked_site import Connection, MaskedSite, open_masked_site
from tests.integration.test_masks import INSERT, MASKED, ROW, SSN

SEEN = {"mask_clerk": SSN, "mask_nurse": MASKED, "mask_research": None, "mask_dba": "42501", "mask_pool": "42501"}
ROLES = ["mask_clerk", "mask_nurse", "mask_research", "mask_dba"]
SETS = ["SET ROLE {}", "SET LOCAL ROLE {}", "SELECT set_config('role', '{}', true)", "DO $$ BEGIN SET ROLE {}; END $$"]
STEPS = [
    *(step.format(role) for step in SETS for role in ROLES), "RESET ROLE", "SET ROLE NONE", "RESET ALL", "BEGIN", "COMMIT",
    "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1/0", "SET search_path TO public", "DISCARD PLANS",
    "EXECUTE p", "SELECT 1",
]  # fmt: skip
_EXAMPLES = int(EXPLORE) * 20 or 60
_FEWER = _EXAMPLES // 2
READS = ["SELECT ssn FROM public.people", "SELECT ssn FROM people", "EXECUTE p", "FETCH ABSOLUTE 1 FROM c", "prepared", "simple"]


@pytest.fixture(scope="module")
def masked(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaskedSite]:
    with open_masked_site(postgres_server, tmp_path_factory.mktemp("walks")) as masked:
        with masked.as_owner() as conn:
            conn.execute(INSERT, ROW)
        yield masked


def read(conn: Connection, how: str) -> str | None:
    """Read the number as a role of now; its SQLSTATE where that fails, and nothing where what is read by is not there."""
    try:
        if how == "prepared":
            row = conn.execute("SELECT ssn FROM people WHERE id = %s", (1,), prepare=True).fetchone()
        elif how == "simple":
            row = psycopg.ClientCursor(conn).execute("SELECT ssn FROM people WHERE id = 1").fetchone()
        else:
            row = conn.execute(how.encode()).fetchone()
    except psycopg.Error as error:
        return error.diag.sqlstate
    assert row is not None
    return None if row[0] is None else str(row[0])


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(READS)), max_size=10))
def test_the_role_of_the_moment_decides(masked: MaskedSite, steps: list[tuple[str, str]]) -> None:
    with masked.as_role("mask_pool", prepare_threshold=None) as conn:
        conn.execute("SET ROLE mask_clerk")
        conn.execute("PREPARE p AS SELECT ssn FROM people")
        conn.execute("RESET ROLE")
        for step, how in steps:
            try:
                conn.execute(step.encode())
                if step == "BEGIN":
                    conn.execute("SAVEPOINT begun")
                    conn.execute("DECLARE c CURSOR WITHOUT HOLD FOR SELECT ssn FROM public.people")
            except psycopg.Error:
                if conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
                    conn.execute("ROLLBACK TO begun")
            in_block = conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
            if in_block:
                conn.execute("SAVEPOINT looked")
            shown = read(conn, how)
            if conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
                conn.execute("ROLLBACK TO looked")
            row = conn.execute("SELECT current_user::text").fetchone()
            assert row is not None
            expected = {SEEN[row[0]]}
            if how.startswith(("EXECUTE", "FETCH")):
                expected |= {"42501", "34000", "0A000", "26000"}  # opened by another role, not there, or to be prepared anew
            assert shown in expected, (row[0], how)


@settings(max_examples=_FEWER, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.sampled_from([*ROLES, "NONE"]), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_in_pipelines_too(masked: MaskedSite, roles: list[str], block: bool, synced: bool) -> None:
    with masked.as_role("mask_pool", prepare_threshold=None) as conn:
        told: list[tuple[str, psycopg.Cursor[tuple[object, ...]]]] = []
        # What was refused is told at the pipeline's end where psycopg had not read it before.
        with suppress(psycopg.errors.PipelineAborted), conn.pipeline() as pipeline:
            try:
                if block:
                    conn.execute("BEGIN")
                for role in roles:
                    conn.execute(f"SET ROLE {role}".encode())
                    if synced:
                        pipeline.sync()
                    told.append((role, conn.execute("SELECT ssn FROM public.people")))
                pipeline.sync()
            except psycopg.Error:
                pass
        for role, cursor in told:
            try:
                row = cursor.fetchone()
            except (psycopg.Error, IndexError):
                continue
            if row is not None:
                assert row[0] == SEEN.get(role, "nothing")
