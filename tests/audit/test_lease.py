"""The proxy writes into the open file itself: what it was told durable is proven, whoever dies, fails or rotates meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from phiproxy.audit import group_commit, lease, open_log_file
from phiproxy.audit.committer import Committer
from phiproxy.audit.destinations import Forwarder, StandardOutput
from phiproxy.audit.group_commit import AuditLog
from phiproxy.audit.lease import MOST_SLOW, Lease, LeasedFile
from phiproxy.audit.log_files import LEAST_LENT, LogFiles
from phiproxy.audit.reading import records
from phiproxy.audit.records import numbered
from phiproxy.audit.syncs import MOST, RECENT, Syncs
from phiproxy.audit.verify import verify
from tests.audit.test_group_commit import SIGNER, durable, opened
from tests.audit.test_syncs import seen
from tests.audit.test_verify import Clock, execution, log, verified


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> LogFiles:
    files = log(tmp_path, clock)
    files.append([execution(0)])  # a file is open
    return files


def lent(files: LogFiles) -> LeasedFile:
    found = files.lend()
    assert found is not None
    return LeasedFile(Lease.read(found.encoded()))


def write(leased: LeasedFile, *numbers: int) -> None:
    assert leased.write([execution(number) for number in numbers])


# -- who writes the log, and what was lent ----------------------------------------------------------------------------------------


def test_what_the_proxy_writes_is_numbered_hashed_and_signed(tmp_path: Path, files: LogFiles) -> None:
    leased = lent(files)
    write(leased, 1, 2)
    files.written_by_others(leased.at)
    assert files.checkpoint()["size"] == 4, "signed while it is lent"
    write(leased, 3)
    assert seen(tmp_path) == [0, 1, 2, 3], "they are there before the writer knows of them"
    files.take_back(leased.at)
    leased.close()
    files.append([execution(4)])
    files.close()
    assert seen(tmp_path) == [0, 1, 2, 3, 4]
    assert [record["sequence"] for record in records(tmp_path)] == list(range(1, 8))
    result = verified(tmp_path)
    assert (result.faults, result.notes, result.proven) == ([], [], 7)


def test_of_a_proxy_that_was_killed_what_is_whole_counts(tmp_path: Path, files: LogFiles) -> None:
    leased = lent(files)
    write(leased, 1)
    torn = numbered(execution(2), 4)[:40]
    descriptor = os.open(next(tmp_path.glob("*.jsonl")), os.O_WRONLY)
    os.pwrite(descriptor, torn, leased.at)
    os.close(descriptor)
    files.take_back(None)
    files.close()
    assert seen(tmp_path) == [0, 1]
    result = verified(tmp_path)
    assert (result.faults, result.notes, result.proven) == ([], [], 4)


def test_a_write_that_fails_has_the_rest_written_to_another_file(
    tmp_path: Path, files: LogFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased = lent(files)
    write(leased, 1)
    with monkeypatch.context() as patched:

        def fail(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input"):
            leased.write([execution(2)])
    files.take_back(leased.at, failed=True)
    files.append([execution(2)])
    files.close()
    assert seen(tmp_path) == [0, 1, 2]
    assert len(list(tmp_path.glob("*.checkpoints"))) == 2
    assert verified(tmp_path).faults == []


def test_a_checkpoint_that_fails_leaves_the_file_until_it_is_given_back(
    tmp_path: Path, files: LogFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased = lent(files)
    with monkeypatch.context() as patched:

        def full(_descriptor: int, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="space"):
            files.checkpoint()
    write(leased, 1)
    files.take_back(leased.at, failed=True)
    files.append([execution(2)])
    files.close()
    assert seen(tmp_path) == [0, 1, 2]
    assert verified(tmp_path).faults == []


def test_more_is_lent_as_it_is_used(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_log_file, "ROOM", 2 * LEAST_LENT)
    files = log(tmp_path, clock)
    files.append([execution(0)])
    leased = lent(files)
    extended = 0
    for number in range(1, 5000, 100):
        write(leased, *range(number, number + 100))
        if leased.at > leased.half:
            files.written_by_others(leased.at)
            more = files.lend()
            assert more is not None
            assert more.at == leased.at
            leased.extend(more.end)
            extended += 1
    files.take_back(leased.at)
    files.close()
    assert extended > 2
    assert seen(tmp_path) == list(range(5001))
    assert verified(tmp_path).faults == []


def test_what_has_no_room_is_not_written(files: LogFiles) -> None:
    leased = lent(files)
    before = leased.at
    assert not leased.write([execution(1)] * 20_000)
    assert leased.at == before
    write(leased, 1)
    files.take_back(leased.at)
    files.close()


def test_a_file_that_is_due_is_lent_no_further_and_then_rotated(tmp_path: Path, files: LogFiles, clock: Clock) -> None:
    leased = lent(files)
    write(leased, 1)
    clock.now += timedelta(days=1)
    files.written_by_others(leased.at)
    assert files.lend() is None
    write(leased, 2)
    assert files.checkpoint()["size"] == 3, "of the same file: the proxy still writes into it"
    files.take_back(leased.at)
    files.append([execution(3)])
    files.close()
    assert seen(tmp_path) == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("*.checkpoints"))) == 2
    assert verified(tmp_path).faults == []


def test_a_file_is_not_lent_beyond_its_greatest_size(tmp_path: Path, clock: Clock) -> None:
    files = log(tmp_path, clock, size=2 * LEAST_LENT)
    files.append([execution(0)])
    found = files.lend()
    assert found is not None
    assert found.end == 2 * LEAST_LENT
    files.take_back(found.at)
    files.append([(b'{"a":"' + b"x" * LEAST_LENT + b'","sequence":', b"}")])
    assert files.lend() is None
    files.close()


def test_nothing_is_lent_where_others_get_the_records_too_or_some_wait(files: LogFiles) -> None:
    forwarder = Forwarder(StandardOutput(), lambda _name, _error, _lost: None, retry=True)
    assert Committer(files, [forwarder]).lend() is None
    forwarder.stop()
    forwarder.close(60)
    assert Committer(None, []).lend() is None
    waits = Committer(files, [])
    waits._put_off([execution(1)])
    assert waits.lend() is None
    files.close()


def test_it_is_lent_where_syncs_are_quick(files: LogFiles) -> None:
    under_test = Syncs(Committer(files, []), lambda _count, _error: None)
    for seconds in [0.00001] * (MOST - 1) + [0.001] * (RECENT - MOST):
        under_test._took(seconds)
        assert under_test.lend() is None
    under_test._took(0.00001)
    found = under_test.lend()
    assert found is not None
    files.take_back(found.at)
    under_test.slow()
    assert under_test.lend() is None
    files.close()


def test_it_is_slow_where_the_disk_was_waited_for(files: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    leased = lent(files)
    monkeypatch.setattr(os, "fdatasync", lambda _: time.sleep(0.001))
    monkeypatch.setattr(lease, "MUCH_LONGER", 20.0)
    for number in range(1 + MOST_SLOW):
        write(leased, number)
        assert not leased.is_slow
    write(leased, 9)
    assert leased.is_slow
    files.take_back(leased.at)
    files.close()


# -- the proxy's side -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, where a sync takes nothing."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no file system in memory")
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory)


async def until_leased(log: AuditLog) -> int:
    """Record until the log writes itself; returns how many were recorded."""
    count = 0
    async with asyncio.timeout(120):
        while log._leased is None:
            log._ask_at = 0.0
            assert await durable(log, log.event("login", {"number": count}))
            count += 1
            if count % 150 == 0:
                log._ask_if_busy()
    return count


@asynccontextmanager
async def leasing(directory: Path) -> AsyncIterator[tuple[AuditLog, int]]:
    """Open a log that writes itself; with how many records it has of kind ``test``."""
    async with opened(directory) as log:
        yield log, await until_leased(log)


def told_of(directory: Path) -> list[int]:
    return [record["number"] for record in records(directory) if record["kind"] == "login"]


def proven(directory: Path, numbers: Sequence[int]) -> None:
    assert told_of(directory) == list(numbers)
    result = verify(directory, [SIGNER.verifier])
    assert (result.faults, result.proven) == ([], result.records)


async def test_a_busy_log_writes_itself_and_what_is_told_is_there(memory: Path) -> None:
    async with leasing(memory) as (log, count):
        for number in range(count, count + 40):
            assert await durable(log, log.event("login", {"number": number}))
            assert told_of(memory)[-1] == number
        await written_as_they_come(log, memory, count + 40)
        leased, log._asked = log._leased, ""
        log._checkpoint()
        assert log._asked == ("more" if leased is not None else "")
        async with asyncio.timeout(120):
            while log._asked:
                await asyncio.sleep(0.01)
    proven(memory, range(count + 48))


async def written_as_they_come(log: AuditLog, memory: Path, first: int) -> None:
    """Record two by two, the first of which is written at once or not: then, and then only, it is durable without a ticket."""
    for number in range(first, first + 8, 2):
        leased, at_once = log._leased, (number - first) % 4 == 0
        if leased is None:
            at_once = False  # so slow is the machine
        else:
            leased.at_once = at_once
        ticket = log.event("login", {"number": number})
        assert (ticket == 0) is at_once
        assert (told_of(memory)[-1] == number) is at_once
        if leased is not None and not at_once:
            leased.at_once = True
            assert log.event("login", {"number": number + 1}), "it waits behind one that waits"
            assert told_of(memory)[-1] == number - 1
        else:
            log.event("login", {"number": number + 1})
        assert await durable(log, ticket)
        assert await durable(log, log._submitted)
        assert told_of(memory)[-2:] == [number, number + 1]


async def test_what_is_told_while_the_disk_is_slow_is_there(memory: Path) -> None:
    async with leasing(memory) as (log, count):
        leased = log._leased
        assert leased is not None
        leased.at_once, leased.is_slow = False, True
        assert await durable(log, log.event("login", {"number": count}))
        assert log._leased is None
        assert log._ask_at > asyncio.get_running_loop().time()
    proven(memory, range(count + 1))


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_told_while_the_disk_fails_is_there(memory: Path, monkeypatch: pytest.MonkeyPatch, *, at_once: bool) -> None:
    async with leasing(memory) as (log, count):
        leased = log._leased
        assert leased is not None
        leased.at_once = at_once
        with monkeypatch.context() as patched:

            def fail(_: int) -> None:
                raise OSError(errno.EIO, "Input/output error")

            patched.setattr(os, "fdatasync", fail)
            assert await durable(log, log.event("login", {"number": count}))
        assert (log._leased, log.broken) == (None, False)
    assert told_of(memory) == list(range(count + 1))
    assert verify(memory, [SIGNER.verifier]).faults == []


async def test_a_writer_that_dies_takes_nothing_with_it(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "RETRY", 0.05)
    async with leasing(memory) as (log, count):
        assert await durable(log, log.event("login", {"number": count}))
        assert log._process is not None
        os.kill(log._process.pid, signal.SIGKILL)
        number = count
        async with asyncio.timeout(120):
            while log._leased is not None or log.broken or log._transport is None:
                number += 1
                log.event("login", {"number": number})
                await asyncio.sleep(0.01)
        number += 1
        assert await durable(log, log.event("login", {"number": number}))
    assert told_of(memory) == list(range(number + 1))
    assert verify(memory, [SIGNER.verifier]).faults == []


async def test_a_lease_that_cannot_be_used_is_given_back(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(LeasedFile):
        def __init__(self, _: Lease) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(group_commit, "LeasedFile", Refused)
    asked: list[bytes] = []
    take = AuditLog._lent

    def take_note(log: AuditLog, message: bytes) -> None:
        asked.append(message)
        take(log, message)

    monkeypatch.setattr(AuditLog, "_lent", take_note)
    async with opened(memory) as log:
        count = 0
        async with asyncio.timeout(120):
            while not any(asked):
                assert await durable(log, log.event("login", {"number": count}))
                count += 1
                if count % 150 == 0:
                    log._ask_if_busy()
        assert await durable(log, log.event("login", {"number": count}))
        assert log._leased is None
    proven(memory, range(count + 1))
