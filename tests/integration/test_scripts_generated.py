"""Random scripts of one transaction: each step is answered as PostgreSQL does, or one is refused; nothing leaks.

Only explored (PHIPROXY_EXPLORE): what a script leaves of a session, and what that costs, is not settled yet.
"""

from __future__ import annotations

import select
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from tests.fixtures.cases import fill
from tests.fixtures.grammar_scripts import Script, Step, scripts
from tests.fixtures.live import Twins
from tests.harness import explore, results
from tests.harness.explore import EXPLORE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600 + 2 * EXPLORE),
    pytest.mark.skipif(not EXPLORE, reason="scripts are explored only: PHIPROXY_EXPLORE=SECONDS"),
]
Said = list[tuple[object, ...]]


@pytest.fixture
def twins(kept_split_twins: Twins) -> Twins:
    """One seeded clinic for all cases, with an engine; the leak oracle at the end."""
    return kept_split_twins


def _next(conn: PGconn) -> PGresult | None:
    while conn.flush():
        select.select([conn.socket], [conn.socket], [], 60)
        conn.consume_input()
    while conn.is_busy():
        assert select.select([conn.socket], [], [], results.ANSWERED)[0], "no answer"
        conn.consume_input()
    return conn.get_result()


def _copied(conn: PGconn, data: bytes) -> list[bytes]:
    """Go through a COPY that has begun; return what has come."""
    if data:
        while conn.put_copy_data(data) == 0:
            select.select([], [conn.socket], [], 60)
        while conn.put_copy_end() == 0:
            select.select([], [conn.socket], [], 60)
        return []
    rows: list[bytes] = []
    while True:
        size, row = conn.get_copy_data(1)
        if size > 0:
            rows.append(bytes(row))
        elif size == 0:
            assert select.select([conn.socket], [], [], results.ANSWERED)[0], "no answer"
            conn.consume_input()
        else:
            return rows


def _pipelined(conn: PGconn, texts: Sequence[str], values: Sequence[Sequence[bytes | None]], got: int) -> list[results.Outcome]:
    conn.enter_pipeline_mode()
    for text, params in zip(texts, values, strict=True):
        conn.send_query_params(text.encode(), list(params), result_format=got)
    conn.pipeline_sync()
    found: list[results.Outcome] = []
    while True:
        result = _next(conn)
        if result is None:
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            break
        found.append(results.outcome(conn, result))
    conn.exit_pipeline_mode()
    return _at_the_end(conn, found)


def _at_the_end(conn: PGconn, found: list[results.Outcome]) -> list[results.Outcome]:
    """Tell the transaction's status that is there at the end: what it is meanwhile depends on what has arrived."""
    status = pq.TransactionStatus(conn.transaction_status).name
    return [replace(one, transaction=status) for one in found]


def run(twins: Twins, conn: PGconn, step: Step, got: int) -> list[results.Outcome | bytes]:
    """Run a step; return all that came of it."""
    texts = [fill(text, twins.value) for text, _ in step.made]
    values = [[None if v is None else fill(v, twins.value).encode() for v in params] for _, params in step.made]
    if step.kind == "pipeline":
        return [*_pipelined(conn, texts, values, got)]
    if step.kind == "simple":
        return [*results.simple(conn, texts[0])]
    if step.kind == "copy":
        conn.send_query(texts[0].encode())
        rows: list[bytes] = []
        ended: list[results.Outcome] = []
        while (result := _next(conn)) is not None:
            if result.status in results.COPIES:
                rows += _copied(conn, b"".join(v or b"" for v in values[0]))
            else:
                ended.append(results.outcome(conn, result))
        return [*rows, *_at_the_end(conn, ended)]
    if step.kind == "prepare":
        conn.send_prepare(b"own", texts[0].encode())
        made = results.collect(conn)
        if made[-1].sqlstate:
            return [*made]
        conn.send_describe_prepared(b"own")
        return [*results.collect(conn)]
    if step.kind == "execute":
        conn.send_query_prepared(b"own", values[0], result_format=got)
        return [*results.collect(conn)]
    conn.send_query_params(texts[0].encode(), values[0], result_format=got)
    return [*results.collect(conn)]


def _visible(one: results.Outcome | bytes, step: Step) -> object:
    text = step.made[0][0]
    ordered = text.startswith(("FETCH", "COPY")) or (len(step.made) == 1 and text.rpartition("ORDER BY")[2].endswith(", 1"))
    return one if isinstance(one, bytes) else (*one.visible(ordered=ordered), one.parameters)


def _without_end(found: list[results.Outcome | bytes]) -> list[results.Outcome | bytes]:
    """Leave out the status of the transaction, which the refused one among them has ended."""
    return [one if isinstance(one, bytes) else replace(one, transaction="") for one in found]


def answered(twins: Twins, script: Script, got: int) -> Counter[str]:
    """Run a script on both sides; return what became of its steps."""
    became: Counter[str] = Counter()
    twins.restart()
    with twins.rolled_back():
        for step in script:
            found = run(twins, twins.both.proxied, step, got)
            expected = run(twins, twins.both.plain, step, got)
            if any(isinstance(one, results.Outcome) and one.message.startswith("phiproxy:") for one in found):
                found, expected = _without_end(found), _without_end(expected)
            for one, other in zip(found, expected, strict=False):
                # Of a string of several statements none is executed where one is refused.
                meant = expected if step.kind == "simple" else [other]
                error = next((o.sqlstate for o in meant if isinstance(o, results.Outcome) and o.sqlstate), None)
                if isinstance(one, results.Outcome) and one.message.startswith("phiproxy:"):
                    assert one.sqlstate == "0A000" or error, (
                        f"refused with {one.sqlstate} what PostgreSQL accepts: {one.message}: {step}"
                    )
                    return became + Counter([f"{step.kind} {'error' if error else 'refused'}"])
                assert _visible(one, step) == _visible(other, step), f"{step}\n  {_visible(one, step)}\n  {_visible(other, step)}"
            assert len(found) == len(expected), f"{step}: {found} / {expected}"
            failed = [o for o in expected if isinstance(o, results.Outcome) and o.sqlstate is not None]
            became[f"{step.kind} {'error' if failed else 'equal'}"] += 1
        if twins.both.plain.transaction_status == pq.TransactionStatus.INTRANS:
            twins.same_state()
    return became


def test_scripts(twins: Twins) -> None:
    became = explore.tried(st.tuples(scripts(), st.sampled_from([0, 1])), 30, lambda case: answered(twins, *case))
    twins.restart()
    for kind in ("simple", "extended", "copy", "pipeline"):
        explore.enough(became, f"{kind} equal", 0)
