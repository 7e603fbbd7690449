"""``phiproxy explain`` and a session agree: over all fixtures, on what the server sees, and on every refusal and its place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from phiproxy import app
from phiproxy.plan.explanation import Explanation, explain
from phiproxy.plan.planner import Planner
from phiproxy.policy.load import load_settings
from phiproxy.sql.policy_files import load_policies
from tests.fixtures.cases import CASES, Case
from tests.fixtures.live import Twins
from tests.harness import results
from tests.harness.results import Outcome


@pytest.fixture
def twins(kept_twins: Twins) -> Twins:
    """One seeded clinic for all cases, which are only parsed there; nothing has leaked behind each."""
    return kept_twins


@pytest.fixture(scope="module")
def planner(all_twins: Twins) -> Iterator[Planner]:
    """What ``phiproxy explain`` plans with, made once."""
    site = all_twins.clinic.site
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        settings = load_settings(site.config)
        yield asyncio.run(app.planner_without_keys(settings, load_policies(settings)[0]))


def parsed(twins: Twins, statement: str) -> tuple[bytes, Outcome]:
    """Let a session parse a statement; return what it sent, and the answer."""
    conn, tap = twins.both.proxied, twins.clinic.site.tap
    tap.reset()
    conn.send_prepare(b"", statement.encode())
    (answer,) = results.collect(conn)
    sent = b"".join(tap.upstream())
    return sent, answer


def said(told: Explanation) -> bytes:
    """Return a pattern of the server's text: what explain leaves out is spelled in hexadecimal, and each time anew."""
    pattern = re.escape(told.server).replace(re.escape("\\x…"), "\\\\x[0-9a-f]+").replace("…", '[^"]*"?[^:]*')
    return pattern.encode()


def ids(case: Case) -> str:
    return case.id


# Every other one: how many they are says nothing more here, and each is a session's statement in test_fixtures too.
@pytest.mark.parametrize("case", [c for c in CASES if not c.unit][::2], ids=ids)
def test_they_agree(twins: Twins, planner: Planner, case: Case) -> None:
    if twins.both.plain.server_version < case.since * 10_000:
        pytest.skip(f"needs PostgreSQL {case.since}")
    statement, _ = case.with_values(twins.value)
    told = explain(planner, statement.encode(), twins.clinic.site.sealed)
    sent, answer = parsed(twins, statement)
    refused = answer.message.startswith("phiproxy:")
    assert refused is (told.answer == "refused"), answer.message
    if refused:
        assert (answer.sqlstate, answer.position, answer.hint) == (told.sqlstate, told.position, told.hint)
        return
    assert re.search(said(told), sent), "the session sent another text than explain says"
    if told.answer == "forwarded":
        assert statement.encode() in sent
