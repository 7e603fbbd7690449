"""Files on a disk that fails: what was said to be written is there and proven, whichever call failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from phiproxy.audit import open_log_file
from phiproxy.audit.log_files import LogFiles, Rotation, Writer
from phiproxy.audit.reading import left_behind, records
from phiproxy.audit.records import line_of
from tests.audit.test_verify import SIGNER, Clock, execution, log, verified

CALLS = ("open", "write", "pwrite", "fdatasync", "fsync")


class FullDisk:
    """From one call on, so many calls in a row fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: int, count: int) -> None:
        self.seen, self.failing = 0, range(first, first + count)
        for name in CALLS:
            self._patch(monkeypatch, name)

    def _patch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any) -> Any:
            self.seen += 1
            if self.seen in self.failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return None if name.endswith("sync") else original(*arguments)  # a real one takes milliseconds

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("count", [1, 4])
def test_a_disk_that_is_full_at_any_call_loses_nothing_that_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    first, failed = 0, True
    while failed:
        first += 1
        directory = tmp_path / str(first)
        directory.mkdir()
        with monkeypatch.context() as patched:
            patched.setattr(open_log_file, "ROOM", 4096)
            disk = FullDisk(patched, first, count)
            files = log(directory, Clock(), size=900)
            taken, failed = written(files), disk.seen >= first
        assert {record["execution"] for record in records(directory) if record["kind"] == "execution"} >= taken
        result = verified(directory)
        assert result.faults == [], (first, result.notes)
    assert first > 50


def test_the_first_record_of_a_file_has_the_facts_of_by_then(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"events": {"clinic": 7}}
    files = LogFiles(tmp_path, Writer("proxy-1", "0"), SIGNER, Rotation(400, compress=False), now=Clock(), facts=facts)
    files.append([execution(1)])
    facts["events"] = {"clinic": 9}
    for number in range(5):
        files.append([execution(number)])
    told = [record["events"] for record in records(tmp_path) if record["kind"] == "log.opened"]
    assert told[:2] == [{"clinic": 7}, {"clinic": 9}]
    # Its records have no later event, so the next process goes on behind this one.
    assert left_behind(tmp_path, ("proxy-1", "0")).events == {"clinic": 9}
    files.close()


@pytest.mark.parametrize("odd", [None, 1.5, "x", [], {"clinic": "x"}, {"clinic": True}, {"clinic": [8]}])
def test_a_process_begins_behind_records_of_any_fields(tmp_path: Path, odd: object) -> None:
    files = LogFiles(tmp_path, Writer("proxy-1", "0"), SIGNER, Rotation(1 << 20), now=Clock(), facts={"events": {"clinic": 7}})
    forged: list[dict[str, object]] = [{"database": odd, "event": 8}, {"database": "clinic", "event": odd}, {}]
    files.append([*(line_of("key", fields) for fields in forged), line_of("log.opened", {"events": odd})])
    assert left_behind(tmp_path, ("proxy-1", "0")).events == ({"clinic": 7, "x": 8} if odd == "x" else {"clinic": 7})
    files.close()


def written(files: Any) -> set[int]:
    """Write and sign some records, each until it is taken as by a proxy that tries it again; returns which were taken."""
    taken = set[int]()
    for number in range(15):
        for _ in range(6):
            try:
                files.append([execution(number)])
            except OSError:
                continue
            taken.add(number)
            break
        if number % 4 == 3:
            try:
                files.checkpoint()
            except OSError:
                continue
    for _ in range(6):
        try:
            files.close()
        except OSError:
            continue
        break
    assert len(taken) == 15
    return taken
