"""Syncs that overlap: records are told to be durable in their order, none that is not, and a sync that fails loses none."""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiproxy.audit import open_log_file, syncs
from phiproxy.audit.committer import Committer
from phiproxy.audit.log_files import LogFiles
from phiproxy.audit.open_log_file import SYNCS, OpenFile
from phiproxy.audit.reading import records
from phiproxy.audit.syncs import Syncs
from tests.audit.test_verify import Clock, execution, log, verified


class Disk:
    """Holds each overlapping sync until the test lets it go on, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way: list[tuple[threading.Event, list[OSError]]] = []
        self.arrived = threading.Semaphore(0)
        monkeypatch.setattr(syncs, "LONG", -1.0)
        original = OpenFile.sync

        def sync(file: OpenFile, slot: int) -> None:
            if threading.current_thread().name.startswith("audit sync"):
                may, errors = threading.Event(), list[OSError]()
                self.under_way.append((may, errors))
                self.arrived.release()
                may.wait()
                if errors:
                    raise errors[0]
            original(file, slot)

        monkeypatch.setattr(OpenFile, "sync", sync)

    def await_syncs(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=120)

    def let(self, number: int, *, fail: bool = False) -> None:
        may, errors = self.under_way[number]
        if fail:
            errors.append(OSError(errno.EIO, "Input/output error"))
        may.set()


class Told:
    def __init__(self) -> None:
        self.said: list[tuple[int, bool]] = []

    def __call__(self, count: int, error: OSError | None) -> None:
        self.said.append((count, error is None))

    def until(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while sum(told for told, _ in self.said) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[LogFiles]:
    files = log(tmp_path, Clock())
    files.append([execution(0)])  # a file is open
    yield files
    files.close()


def seen(directory: Path) -> list[int]:
    return [record["execution"] for record in records(directory) if record["kind"] == "execution"]


def test_records_are_durable_in_their_order(tmp_path: Path, files: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, told = Disk(monkeypatch), Told()
    under_test = Syncs(Committer(files, []), told)
    under_test.commit([execution(1)])
    disk.await_syncs(1)
    under_test.commit([execution(2), execution(3)])
    disk.await_syncs(1)
    disk.let(1)
    time.sleep(0.05)
    assert told.said == []
    disk.let(0)
    under_test.drain()
    assert told.said == [(3, True)]
    files.checkpoint()
    assert seen(tmp_path) == [0, 1, 2, 3]
    assert verified(tmp_path).faults == []


def test_so_many_syncs_are_under_way_and_no_more(files: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, told = Disk(monkeypatch), Told()
    under_test = Syncs(Committer(files, []), told)

    def commit() -> None:
        for number in range(1, SYNCS + 2):
            under_test.commit([execution(number)])

    commits = threading.Thread(target=commit)
    commits.start()
    disk.await_syncs(SYNCS)
    assert not disk.arrived.acquire(timeout=0.05)
    disk.let(0)
    disk.await_syncs(1)
    for number in range(1, SYNCS + 1):
        disk.let(number)
    commits.join(120)
    told.until(SYNCS + 1)
    assert all(durable for _, durable in told.said)


@pytest.mark.parametrize("first", [0, 1])
def test_where_one_fails_all_behind_it_wait(tmp_path: Path, files: LogFiles, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    disk, told = Disk(monkeypatch), Told()
    under_test = Syncs(Committer(files, []), told)
    for number in (1, 2):
        under_test.commit([execution(number)])
        disk.await_syncs(1)
    disk.let(first, fail=first == 0)
    disk.let(1 - first, fail=first == 1)
    under_test.drain()
    assert told.said == [(2, False)]
    # What has failed is written again, before what comes then and into another file.
    under_test.commit([execution(3)])
    under_test.drain()
    assert told.said == [(2, False), (1, True)]
    assert seen(tmp_path) == [0, 1, 2, 3]
    files.checkpoint()
    assert verified(tmp_path).faults == []
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_told_durable_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Syncs of any duration, of which some fail; the files are rotated meanwhile."""
    monkeypatch.setattr(syncs, "LONG", -1.0 if seed % 2 else 0.0005)
    monkeypatch.setattr(open_log_file, "ROOM", 4096)
    chance, calls = random.Random(seed), itertools.count(seed)

    def fdatasync(_: int) -> None:
        time.sleep(chance.choice((0, 0, 0.001)))
        if next(calls) % 20 == 10:  # whichever of the threads it is
            raise OSError(errno.EIO, "Input/output error")

    files, durable, taken = log(tmp_path, Clock(), size=3000, compress=True), list[int](), list[list[int]]()

    def told(count: int, error: OSError | None) -> None:
        """Note the oldest as durable. Those that failed are written later, with what is committed then."""
        told_of = 0
        while told_of < count:
            batch = taken.pop(0)
            told_of += len(batch)
            if error is None:
                durable.extend(batch)
                assert set(batch) <= set(seen(tmp_path))
        assert told_of == count

    under_test = Syncs(Committer(files, []), told)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fdatasync)
        for number in range(0, 240, 3):
            batch = list(range(number, number + chance.randint(1, 3)))
            taken.append(batch)
            under_test.commit([execution(each) for each in batch])
            under_test.settle()
    under_test.drain()
    taken.append([999])
    under_test.commit([execution(999)])
    under_test.drain()
    files.close()
    assert len(durable) > 60
    everything = seen(tmp_path)
    assert set(durable) <= set(everything)
    assert len(everything) == len(set(everything)) > len(durable)
    assert verified(tmp_path).faults == []
