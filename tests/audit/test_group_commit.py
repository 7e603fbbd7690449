"""The log of a process and its writer: many records to a sync, tickets in order, and what happens when nothing takes them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from phiproxy.audit import group_commit
from phiproxy.audit.checkpoints import Signer
from phiproxy.audit.group_commit import LONGEST_WAIT, AuditLog, OnFailure
from phiproxy.audit.reading import records
from phiproxy.audit.verify import verify
from phiproxy.audit.writer import Start

SEED = bytes(range(32))
SIGNER = Signer("clinic-audit", SEED)


def start(directory: Path | None, **changes: object) -> Start:
    fields: dict[str, object] = {
        "proxy": "one", "number": "0", "host": "here", "key_name": SIGNER.name, "seed": SEED.hex(),
        "directory": str(directory) if directory is not None else None, "max_file": 1 << 20, "compress": False, "stdout": False,
        "syslog": None, "facts": {"checkpoint_seconds": 1},
    }  # fmt: skip
    return Start(**{**fields, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def opened(directory: Path, on_failure: OnFailure = "refuse", interval: float = 60) -> AsyncIterator[AuditLog]:
    log = AuditLog(start(directory), on_failure=on_failure, interval=interval)
    await log.open({"version": "x"})
    try:
        yield log
    finally:
        await log.close()


async def durable(log: AuditLog, ticket: int) -> bool:
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    log.when_durable(ticket, lambda _, ok: told.set_result(ok))
    return await asyncio.wait_for(told, 120)


async def test_what_is_durable_is_in_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for number in range(20):
            ticket = log.event("login", {"number": number})
            assert await durable(log, ticket)
            assert [r["number"] for r in records(tmp_path) if r["kind"] == "login"][-1] == number
        assert await durable(log, 1)
        assert (log.failing, log.broken, log.recorded) == (False, False, 21)
    kinds = [record["kind"] for record in records(tmp_path)]
    assert (kinds[:2], kinds[-2:]) == (["log.opened", "proxy.started"], ["proxy.stopped", "log.closed"])
    result = verify(tmp_path, [SIGNER.verifier])
    assert (result.faults, result.proven) == ([], 24)


async def test_tickets_are_told_in_their_order_whatever_comes_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        told: list[int] = []
        tickets = [log.event("login", {"number": number}) for number in range(500)]
        for ticket in tickets:
            log.when_durable(ticket, lambda ticket, _: told.append(ticket))
        assert await durable(log, tickets[-1])
        assert told == tickets
    assert [record["number"] for record in records(tmp_path) if record["kind"] == "login"] == list(range(500))


async def test_it_is_signed_also_when_nothing_happens(tmp_path: Path) -> None:
    heads: list[dict[str, object]] = []
    async with opened(tmp_path, interval=0.05) as log:
        log.told_head = heads.append
        async with asyncio.timeout(120):
            while len(heads) < 3:
                await asyncio.sleep(0.02)
    assert {head["size"] for head in heads} == {2}
    assert verify(tmp_path, [SIGNER.verifier]).faults == []


@pytest.mark.parametrize("on_failure", ["refuse", "continue"])
async def test_a_writer_that_dies_is_replaced_and_its_records_are_written_after_all(tmp_path: Path, on_failure: OnFailure) -> None:
    async with opened(tmp_path, on_failure) as log:
        process = log._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        tickets = [log.event("login", {"number": number}) for number in range(3)]
        waiting = [asyncio.ensure_future(durable(log, ticket)) for ticket in tickets]
        await asyncio.sleep(0.05)
        assert log.lag >= 0.04
        os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.gather(*waiting) == [on_failure == "continue"] * 3
        assert log.failing is (on_failure == "refuse")
        async with asyncio.timeout(120):
            while log.broken:
                await asyncio.sleep(0.05)
        assert await durable(log, log.event("login", {"number": 3}))
        assert log.lag == 0
    assert {record["number"] for record in records(tmp_path) if record["kind"] == "login"} == {0, 1, 2, 3}
    assert verify(tmp_path, [SIGNER.verifier]).faults == []


async def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = AuditLog(start(tmp_path / "file" / "audit"), on_failure="refuse", interval=60)
    with pytest.raises(OSError, match=r"[Dd]irectory"):
        await log.open({})
    await log.close()


async def test_two_processes_do_not_write_under_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path):
        other = AuditLog(start(tmp_path), on_failure="refuse", interval=60)
        with pytest.raises(OSError, match="another process writes one"):
            await other.open({})
        await other.close()


async def test_the_registrys_events_are_read_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        log.event("key", {"database": "clinic", "event": 7})
    other = AuditLog(start(tmp_path), on_failure="refuse", interval=60)
    assert await other.open({}) == {"clinic": 7}
    await other.close()
    assert json.dumps(next(iter(records(tmp_path)))["previous"]) == "null"


@pytest.mark.parametrize(
    ("takes", "every", "together"),
    [
        pytest.param(0, 1, range(3, 9), id="a few turns, and then nobody waits any longer"),
        pytest.param(0, 3, range(1, 2), id="a turn was idle"),
        pytest.param(LONGEST_WAIT / 7, 3, range(2, 4), id="while the loop has other work, for so long"),
    ],
)
async def test_records_of_several_turns_are_sent_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, every: int, together: range
) -> None:
    async with opened(tmp_path) as log:
        assert await durable(log, log._submitted)
        clock, sent, write = [0.0], list[int](), log._flush
        monkeypatch.setattr(group_commit, "perf_counter", lambda: clock[0])
        log._flush = lambda: (sent.append(len(log._pending)), write())[1]  # type: ignore[method-assign,func-returns-value]
        loop = asyncio.get_running_loop()

        def turn(left: int) -> None:
            if left:
                loop.call_soon(turn, left - 1)
            clock[0] += takes
            if left % every == 0:
                log.event("login", {})

        loop.call_soon(turn, 30)
        async with asyncio.timeout(120):
            while sum(sent) < 30 // every + 1:
                await asyncio.sleep(0.01)
        assert next(count for count in sent if count) in together


def test_where_one_of_its_threads_fails_the_writer_ends_and_says_no_value() -> None:
    code = """if True:
        import socket, threading
        from phiproxy.audit import writer
        ours, theirs = socket.socketpair()
        threading.Timer(0.1, lambda: int("123-45-6789")).start()
        writer.main(theirs.detach())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (os.EX_SOFTWARE, "phiproxy: the audit log's writer has failed: ValueError\n")
