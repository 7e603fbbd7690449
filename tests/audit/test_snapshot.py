"""Reading a log beside those who write, rotate, compress and prune it: whatever they do, nothing is missed or doubted."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from phiproxy.audit import log_files, open_log_file
from phiproxy.audit.looked_at import Look
from phiproxy.audit.open_log_file import CHECKPOINTS, HASHES, RECORDS, compress
from phiproxy.audit.prune import prunable, prune
from phiproxy.audit.reading import StoredFile, left_behind, record_of, records, stored_files
from phiproxy.audit.records import line_of
from phiproxy.audit.snapshot import snapshot
from phiproxy.audit.verify import Verified, verify
from phiproxy.audit.verify_anchors import Witnessed
from tests.audit.test_verify import SIGNER, Clock, log, verified, write


class AtOnce:
    """An executor without a thread: files are compressed where the script says so."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., object], *arguments: object) -> Future[None]:
        function(*arguments)
        return Future()

    def shutdown(self) -> None: ...


class Beside:
    """A worker and a supervisor that write a log in a thread, one system call at a time: ``step`` lets them go on to the next."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, Clock()
        self.durable: list[int] = []
        """The executions that whoever begins to read now must see."""
        self.ended = False
        self.broken: BaseException | None = None
        self.arrived, self.may = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            self.before_call()
            self.write()
        except BaseException as error:
            self.broken = error
        self.ended = True
        self.arrived.release()

    def write(self) -> None:
        worker = log(self.directory, self.clock, size=900, compress=True)
        supervisor = log(self.directory, self.clock, size=1500, compress=True, number="supervisor")
        for number in range(60):
            worker.append([line_of("execution", {"execution": number})])
            self.durable.append(number)
            if number % 3 == 2:
                supervisor.append([line_of("log.heads", {"heads": [worker.checkpoint()]})])
                supervisor.checkpoint()
            if number % 10 == 9:
                old = prunable(self.directory, self.clock.now - timedelta(milliseconds=20))
                gone = [record_of(line) or {} for file in old for line in file.lines()]
                self.durable = [each for each in self.durable if each not in [record.get("execution") for record in gone]]
                prune(old)
        worker.close()
        supervisor.close()

    def before_call(self) -> None:
        if threading.current_thread() is self.thread:
            self.arrived.release()
            self.may.acquire()

    def step(self, count: int) -> None:
        for _ in range(count):
            if threading.current_thread() is not self.thread and not self.ended:
                self.may.release()
                self.arrived.acquire()


@contextmanager
def beside(directory: Path, monkeypatch: pytest.MonkeyPatch, steps: Callable[[], int]) -> Iterator[Beside]:
    """Yield writers that stop before each of their system calls, and go on by so many steps at each one of a reader."""
    writers = Beside(directory)

    def hooked(owner: Any, name: str, hook: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            hook()
            return original(*arguments, **options)

        patched.setattr(owner, name, call)

    with monkeypatch.context() as patched:
        patched.setattr(log_files, "ThreadPoolExecutor", AtOnce)
        patched.setattr(open_log_file, "ROOM", 4096)
        patched.setattr(os, "fdatasync", lambda _: None)  # a real one takes milliseconds
        patched.setattr(os, "fsync", lambda _: None)
        for owner, name in ((os, "open"), (os, "write"), (os, "pwrite"), (os, "ftruncate"), (Path, "rename"), (Path, "unlink")):
            hooked(owner, name, writers.before_call)
        hooked(os, "listdir", lambda: writers.step(steps()))
        hooked(StoredFile, "open", lambda: writers.step(steps()))
        writers.thread.start()
        writers.arrived.acquire()
        try:
            yield writers
        finally:
            while not writers.ended:
                writers.step(1)
            writers.thread.join()
            if writers.broken is not None:
                raise writers.broken


def judged(directory: Path, clock: Clock) -> Verified:
    return verify(directory, [SIGNER.verifier], clock.now)


class Bursts:
    """At one call of each look of a reader the writers go on by some steps, and stand still at all others."""

    def __init__(self, seed: int) -> None:
        self._chance, self._left = random.Random(seed), 0

    def begin(self) -> None:
        self._left = self._chance.randrange(40)

    def __call__(self) -> int:
        self._left -= 1
        return self._chance.choice((1, 2, 3, 10, 40)) if self._left == 0 else 0


@pytest.mark.parametrize("seed", range(5))
def test_a_log_is_genuine_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    bursts, looks = Bursts(seed), 0
    with beside(tmp_path, monkeypatch, bursts) as writers:
        writers.step(12)
        while not writers.ended:
            bursts.begin()
            assert judged(tmp_path, writers.clock).faults == []
            looks += 1
            writers.step(seed + 1)
    assert looks > 10
    assert judged(tmp_path, writers.clock).proven > 0


@pytest.mark.parametrize("seed", range(3))
def test_no_record_is_missed_while_others_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    bursts = Bursts(seed)
    with beside(tmp_path, monkeypatch, bursts) as writers:
        writers.step(12)
        while not writers.ended:
            bursts.begin()
            before = {*writers.durable}
            seen = [record["execution"] for record in records(tmp_path) if record["kind"] == "execution"]
            assert len(seen) == len(set(seen))
            # What was pruned meanwhile is the only thing that may be missing.
            assert before & {*writers.durable} <= {*seen}
            writers.step(seed + 1)


def test_a_listing_that_is_caught_by_a_rename_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = log(tmp_path, Clock())
    write(files, 10)
    files.close()
    names, torn = os.listdir(tmp_path), [True]

    def listdir(_: Path) -> list[str]:
        """A directory that shows a name no more, and the one that it was renamed to not yet."""
        return [name for name in names if not (torn and torn.pop() and name.endswith(RECORDS))]

    monkeypatch.setattr(os, "listdir", listdir)
    assert len(list(records(tmp_path))) == 12


def test_a_file_that_was_listed_is_read_whatever_it_is_called_by_then(tmp_path: Path) -> None:
    files = log(tmp_path, Clock())
    write(files, 10)
    (listed,) = stored_files(tmp_path)
    before = [*listed.lines()]
    files.close()
    compress(next(tmp_path.glob("*" + RECORDS)))
    assert [*listed.lines()][:11] == before
    assert {len(listed.hashes(20)), len([*listed.lines()])} == {12}
    prune([listed])
    assert ([*listed.lines()], listed.hashes(20)) == ([], [])
    assert snapshot(tmp_path, Look([SIGNER.verifier], Witnessed())).files[0].has_records is False


def test_a_file_that_is_begun_and_empty_is_no_fault_until_it_is_old(tmp_path: Path) -> None:
    """What a kill -9 leaves between the first record's file and the record."""
    clock = Clock()
    files = log(tmp_path, clock, size=1500)
    write(files, 20)
    files.close()
    whole = verified(tmp_path).records
    stem = f"{clock.now.strftime(log_files.STEM_TIME)}.proxy-1.0"
    for suffix in (RECORDS, HASHES, CHECKPOINTS):
        (tmp_path / (stem + suffix)).touch()
    result = judged(tmp_path, clock)
    assert (result.faults, result.records) == ([], whole)
    assert [note.file for note in result.notes] == [stem]
    clock.now += timedelta(hours=1)
    (fault,) = judged(tmp_path, clock).faults
    assert (fault.file, fault.text.startswith("ends without a closing record")) == (stem, True)
    # The next process goes on behind the last record that is there.
    head = left_behind(tmp_path, ("proxy-1", "0")).head
    assert head is not None
    assert head["file"] != stem
    after = log(tmp_path, clock)
    write(after, 3)
    after.close()
    assert judged(tmp_path, clock).faults == []


def test_a_file_cannot_be_emptied_that_another_one_knows(tmp_path: Path) -> None:
    files = log(tmp_path, Clock(), size=1500)
    write(files, 20)
    files.close()
    for file in stored_files(tmp_path)[1:-1]:
        kept = {suffix: (tmp_path / (file.stem + suffix)).read_bytes() for suffix in (RECORDS, HASHES, CHECKPOINTS)}
        for suffix in kept:
            (tmp_path / (file.stem + suffix)).write_bytes(b"")
        assert any(fault.file == file.stem for fault in verified(tmp_path).faults)
        for suffix, data in kept.items():
            (tmp_path / (file.stem + suffix)).write_bytes(data)
    assert verified(tmp_path).faults == []
