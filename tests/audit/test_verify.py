"""Offline verification against whoever changes the files: the first bad record is named each time."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phiproxy.audit.checkpoints import Checkpoint, Signer
from phiproxy.audit.log_files import LogFiles, Rotation, Writer, head
from phiproxy.audit.merkle_hash_tree import leaf_hash, root_of
from phiproxy.audit.open_log_file import CHECKPOINTS, COMPRESSED, HASHES, RECORDS
from phiproxy.audit.reading import left_behind, stored_files
from phiproxy.audit.records import Kind, line_of, numbered
from phiproxy.audit.verify import Verified, verify
from phiproxy.errors import ConfigError

SIGNER = Signer("clinic-audit", bytes(range(32)))
BEGAN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = BEGAN

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1000)
        return self.now


def log(directory: Path, clock: Clock, *, size: int = 1 << 30, compress: bool = False, number: str = "0") -> LogFiles:
    writer = Writer("proxy-1", number)
    facts = {"checkpoint_seconds": 60}
    previous = left_behind(directory, ("proxy-1", number)).head
    return LogFiles(directory, writer, SIGNER, Rotation(size, compress), now=clock, facts=facts, previous=previous)


def execution(number: int) -> tuple[bytes, ...]:
    return line_of("execution", {"execution": number, "login": "app", "rows": number % 7})


def write(files: LogFiles, count: int, *, checkpoint_every: int = 7) -> None:
    for number in range(count):
        files.append([execution(number)])
        if number % checkpoint_every == checkpoint_every - 1:
            files.checkpoint()


def verified(directory: Path, as_of: datetime | None = None) -> Verified:
    return verify(directory, [SIGNER.verifier], as_of or BEGAN + timedelta(minutes=1))


def only(directory: Path, suffix: str) -> Path:
    (path,) = directory.glob(f"*{suffix}")
    return path


def test_what_was_written_is_proven(tmp_path: Path) -> None:
    files = log(tmp_path, Clock())
    write(files, 30)
    files.close()
    result = verified(tmp_path)
    assert (result.faults, result.notes) == ([], [])
    assert (result.files, result.records, result.proven) == (1, 32, 32)


def test_a_checkpoint_is_signed_when_nothing_has_happened(tmp_path: Path) -> None:
    clock = Clock()
    files = log(tmp_path, clock)
    files.checkpoint()
    clock.now += timedelta(seconds=60)
    files.checkpoint()
    result = verified(tmp_path)
    assert not result.faults
    assert result.until == clock.now
    assert len(stored_files(tmp_path)[0].notes()[0]) == 3


@pytest.mark.parametrize("compress", [False, True])
def test_files_are_rotated_by_size_and_by_day(tmp_path: Path, *, compress: bool) -> None:
    clock = Clock()
    files = log(tmp_path, clock, size=2000, compress=compress)
    write(files, 60)
    clock.now += timedelta(days=1)
    files.append([execution(61)])
    files.close()
    result = verified(tmp_path)
    assert not result.faults
    assert result.files > 4
    assert result.proven == result.records == 61 + 2 * result.files
    days = {file.begun[:8] for file in stored_files(tmp_path)}
    assert days == {"20261127", "20261128"}
    assert len(list(tmp_path.glob("*" + (COMPRESSED if compress else RECORDS)))) >= result.files - 1


def test_the_next_process_signs_what_the_one_before_has_left(tmp_path: Path) -> None:
    clock = Clock()
    killed = log(tmp_path, clock)
    write(killed, 10)
    path = only(tmp_path, RECORDS)
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(b"\0"))  # what is not written yet is zeros
        file.write(b'{"half')
    after = log(tmp_path, clock)
    after.append([execution(1)])
    after.close()
    result = verified(tmp_path)
    assert not result.faults
    assert [note.text for note in result.notes] == [
        "the last record is not whole: the proxy ended while it was written",
        "3 records behind its last checkpoint are proven by the next file: the proxy had ended before it signed them",
    ]
    assert result.proven == result.records
    *lines, _ = path.read_bytes().rstrip(b"\0").split(b"\n")
    path.write_bytes(b"\n".join(lines[:-1]) + b"\n")
    (fault,) = verified(tmp_path).faults
    assert (fault.file, fault.record, fault.unknown) == (path.stem, 11, False)
    assert fault.text.startswith("cut off")


def test_what_was_killed_is_told_from_what_was_changed(tmp_path: Path) -> None:
    """As long as no other process has signed what a killed one has left, it looks like one that was cut off."""
    write(log(tmp_path, Clock()), 10)
    killed = verified(tmp_path, BEGAN + timedelta(hours=1))
    assert [fault.unknown for fault in killed.faults] == [True]
    assert killed.in_words.endswith("whether its end was cut off cannot be told")
    assert [note.text for note in killed.notes] == ["3 records behind the last checkpoint are not signed yet"]
    path = only(tmp_path, RECORDS)
    path.write_bytes(path.read_bytes().replace(b'"sequence":3', b'"sequence":4', 1))
    changed = verified(tmp_path, BEGAN + timedelta(hours=1))
    assert [fault.unknown for fault in changed.faults] == [False, True]
    assert changed.in_words == "the log is not what was signed"


def test_what_stands_behind_a_closing_record_was_added(tmp_path: Path) -> None:
    """Of a file that is closed the last record is whole: what is behind it no process has left there."""
    files = log(tmp_path, Clock())
    write(files, 3)
    files.close()
    assert verified(tmp_path).in_words == "nothing was changed, removed or reordered"
    with only(tmp_path, RECORDS).open("ab") as file:
        file.write(b'{"half')
    (fault,) = verified(tmp_path).faults
    assert (fault.record, fault.text) == (6, "something was added behind the record that closes it")


def forged(path: Path, kind: Kind, fields: dict[str, object], *, behind: int | None = None) -> int:
    """Add a record that is numbered on and not signed behind so many, all of them by default; return its number."""
    lines = path.read_bytes().rstrip(b"\0").splitlines()[:behind]
    sequence = int(json.loads(lines[-1])["sequence"]) + 1
    path.write_bytes(b"".join(line + b"\n" for line in (*lines, numbered(line_of(kind, fields), sequence).rstrip(b"\n"))))
    return len(lines) + 1


def test_a_closing_record_that_is_not_signed_hides_no_end_that_was_cut_off(tmp_path: Path) -> None:
    write(log(tmp_path, Clock()), 10)
    forged(only(tmp_path, RECORDS), "log.closed", {"next": None, "proxy": "proxy-1"}, behind=8)
    result = verified(tmp_path, BEGAN + timedelta(hours=1))
    assert [fault.unknown for fault in result.faults] == [True]
    assert result.in_words.endswith("whether its end was cut off cannot be told")


def test_a_new_log_is_signed_as_late_as_it_says(tmp_path: Path) -> None:
    writer, facts = Writer("proxy-1", "0"), {"checkpoint_seconds": 900}
    LogFiles(tmp_path, writer, SIGNER, Rotation(1 << 30, compress=False), now=Clock(), facts=facts).append([execution(1)])
    assert not verified(tmp_path, BEGAN + timedelta(minutes=30)).faults
    assert [fault.unknown for fault in verified(tmp_path, BEGAN + timedelta(hours=1)).faults] == [True]


def test_a_record_behind_the_closing_one_was_added(tmp_path: Path) -> None:
    files = log(tmp_path, Clock())
    write(files, 3)
    files.close()
    record = forged(only(tmp_path, RECORDS), "execution", {"execution": 4, "login": "app", "rows": 1})
    (fault,) = verified(tmp_path).faults
    assert (fault.record, fault.text) == (record, "it was added behind the record that closes the file")


def test_a_file_of_which_nothing_is_signed_does_not_say_how_the_one_before_ended(tmp_path: Path) -> None:
    """Whoever cuts an end off begins the next file as a proxy would, whose first record says that nothing was there."""
    write(log(tmp_path, Clock()), 10)
    path, before = only(tmp_path, RECORDS), set(tmp_path.iterdir())
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:8]))
    late = BEGAN + timedelta(hours=1)
    log(tmp_path, Clock(late)).append([execution(1)])
    for begun in set(tmp_path.iterdir()) - before:
        if begun.suffix != RECORDS:
            begun.write_bytes(b"")
    faults = verified(tmp_path, late + timedelta(seconds=1)).faults
    assert [(fault.file, fault.unknown) for fault in faults if "cut off" in fault.text] == [(path.stem, True)]


def test_records_under_a_checkpoint_that_is_not_genuine_are_named(tmp_path: Path) -> None:
    write(log(tmp_path, Clock()), 7)
    path, checkpoints = only(tmp_path, RECORDS), only(tmp_path, CHECKPOINTS)
    record = forged(path, "execution", {"execution": 8, "login": "app", "rows": 1})
    origin = checkpoints.read_text().splitlines()[0]
    root = root_of([leaf_hash(line) for line in path.read_bytes().splitlines()])
    of_another_key = Signer(SIGNER.name, bytes(32)).note(Checkpoint(origin, record, root, BEGAN))
    checkpoints.write_bytes(checkpoints.read_bytes() + of_another_key + b"\n\n")
    named = [fault.record for fault in verified(tmp_path).faults if "not genuine" in fault.text]
    assert record in named


def test_heads_that_are_not_signed_hide_none_that_are(tmp_path: Path) -> None:
    """Whoever changes a worker's file, and takes its checkpoints away, says in the supervisor's what is in it now."""
    clock = Clock()
    worker, supervisor = log(tmp_path, clock), log(tmp_path, clock, number="supervisor")
    write(worker, 20)
    supervisor.append([line_of("log.heads", {"heads": [worker.checkpoint()]})])
    supervisor.checkpoint()
    path, of_supervisor = (next(tmp_path.glob(f"*.{name}{RECORDS}")) for name in ("0", "supervisor"))
    path.with_suffix(CHECKPOINTS).write_bytes(b"")
    path.with_suffix(HASHES).write_bytes(b"")
    path.write_bytes(path.read_bytes().replace(b'"rows":3', b'"rows":0'))
    size = forged(path, "execution", {"execution": 20, "login": "app", "rows": 1})
    root = root_of([leaf_hash(line) for line in path.read_bytes().splitlines()])
    forged(of_supervisor, "log.heads", {"heads": [head(path.stem, size, root)]})
    assert any("not what it was" in fault.text for fault in verified(tmp_path).faults)


# -- the fuzzer -----------------------------------------------------------------------------------------------------------------

Attack = Callable[[random.Random, list[bytes]], tuple[list[bytes], int]]
"""Changes lines, of which the first is 0; returns them and the index of the first that is wrong then."""


def flip(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    at = chance.randrange(len(lines))
    line = bytearray(lines[at])
    byte = chance.randrange(len(line))
    while True:
        new = chance.randrange(256)
        if new not in (line[byte], 10):
            break
    line[byte] = new
    return [*lines[:at], bytes(line), *lines[at + 1 :]], at


def drop(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    at = chance.randrange(len(lines))
    count = chance.randint(1, 3)
    return [*lines[:at], *lines[at + count :]], at


def swap(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    first, second = sorted(chance.sample(range(len(lines)), 2))
    swapped = [*lines]
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return swapped, first


def truncate(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    at = chance.randrange(len(lines))
    return lines[:at], at


def forge(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    """A record that looks right in the place of another."""
    at = chance.randrange(len(lines))
    before, behind = execution(chance.randrange(10**6))
    return [*lines[:at], b"%b%d%b" % (before, at + 1, behind), *lines[at + 1 :]], at


def insert(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    at = chance.randrange(len(lines))
    before, behind = execution(chance.randrange(10**6))
    return [*lines[:at], b"%b%d%b" % (before, at + 1, behind), *lines[at:]], at


def replay(chance: random.Random, lines: list[bytes]) -> tuple[list[bytes], int]:
    """One record in the place of another."""
    source, at = chance.sample(range(len(lines)), 2)
    return [*lines[:at], lines[source], *lines[at + 1 :]], at


ATTACKS: tuple[Attack, ...] = (flip, drop, swap, truncate, forge, insert, replay)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log")
    files = log(directory, Clock())
    write(files, 40)
    files.close()
    assert not verified(directory).faults
    return directory


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_first_bad_record_is_named(whole: Path, tmp_path: Path, attack: Attack) -> None:
    chance = random.Random(17)
    for _ in range(60):
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        path = only(copy, RECORDS)
        lines, at = attack(chance, path.read_bytes().splitlines())
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        faults = [fault for fault in verified(copy).faults if fault.record is not None]
        assert faults
        assert faults[0].record == at + 1, faults
        shutil.rmtree(copy)


@pytest.mark.parametrize("attack", [drop, swap, truncate, flip], ids=lambda attack: attack.__name__)
def test_without_the_hashes_it_is_named_as_far_as_it_can_be(whole: Path, tmp_path: Path, attack: Attack) -> None:
    """Who changes the hashes too is found out by the signed heads, and named within what one of them covers."""
    chance = random.Random(5)
    for _ in range(40):
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        path = only(copy, RECORDS)
        lines, at = attack(chance, path.read_bytes().splitlines())
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        only(copy, HASHES).write_bytes(b"")
        faults = [fault for fault in verified(copy).faults if fault.record is not None]
        assert faults
        assert faults[0].record is not None
        assert at + 1 - 8 < faults[0].record <= at + 2, (faults, at)
        shutil.rmtree(copy)


def test_hashes_that_were_changed_are_told_apart_from_records(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path = only(copy, HASHES)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    (fault,) = verified(copy).faults
    assert (fault.record, "the records, which are genuine" in fault.text) == (None, True)


def test_checkpoints_that_were_changed_are_found(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    for _ in range(40):
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        path = only(copy, CHECKPOINTS)
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data) - 3)
        data[at] ^= 1 << chance.randrange(7)
        path.write_bytes(bytes(data))
        assert verified(copy).faults
        shutil.rmtree(copy)


def test_a_log_and_its_heads_cut_off_together_end_without_a_closing_record(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path, checkpoints = only(copy, RECORDS), only(copy, CHECKPOINTS)
    notes = checkpoints.read_bytes().split(b"\n\n\n")
    checkpoints.write_bytes(b"\n\n\n".join(notes[:3]) + b"\n\n\n")
    size = int(notes[2].split(b"\n")[1])
    path.write_bytes(b"".join(line + b"\n" for line in path.read_bytes().splitlines()[:size]))
    only(copy, HASHES).write_bytes(only(copy, HASHES).read_bytes()[: size * 32])
    (fault,) = verified(copy, BEGAN + timedelta(hours=1)).faults
    assert fault.record == size + 1
    assert fault.text.startswith("ends without a closing record: cut off, or the proxy was killed")


def test_another_key_proves_nothing(whole: Path) -> None:
    result = verify(whole, [Signer("clinic-audit", bytes(32)).verifier])
    assert result.proven == 0
    assert any("nothing of this file is proven" in fault.text for fault in result.faults)


# -- several files --------------------------------------------------------------------------------------------------------------


def rotated(directory: Path) -> list[str]:
    files = log(directory, Clock(), size=1500)
    write(files, 40)
    files.close()
    assert not verified(directory).faults
    return [file.stem for file in stored_files(directory)]


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_file_that_is_taken_away_is_missed(tmp_path: Path, which: int) -> None:
    stems = rotated(tmp_path)
    assert len(stems) > 3
    for path in tmp_path.glob(stems[which] + "*"):
        path.unlink()
    faults = verified(tmp_path).faults
    assert any(stems[which] in (fault.file, fault.text.rsplit(" ", 1)[-1]) and "missing" in fault.text for fault in faults)


def test_a_file_under_another_name_is_not_believed(tmp_path: Path) -> None:
    stems = rotated(tmp_path)
    for path in list(tmp_path.glob(stems[1] + "*")):
        path.rename(path.with_name(path.name.replace("proxy-1", "proxy-2")))
    assert any("of another file" in fault.text for fault in verified(tmp_path).faults)


def test_pruned_files_leave_their_heads(tmp_path: Path) -> None:
    stems = rotated(tmp_path)
    for suffix in (RECORDS, HASHES):
        (tmp_path / (stems[0] + suffix)).unlink()
    result = verified(tmp_path)
    assert not result.faults
    assert result.pruned > 0
    (tmp_path / (stems[2] + RECORDS)).unlink()
    assert [fault.file for fault in verified(tmp_path).faults] == [stems[2]]


def without(directory: Path, stems: Sequence[str], *suffixes: str) -> dict[str, str]:
    """Take files away; returns what is said to be wrong then, by file."""
    for path in [path for stem in stems for path in directory.glob(stem + "*") if path.suffix in suffixes]:
        path.unlink()
    return {fault.file: fault.text for fault in verified(directory).faults}


def begun_only(directory: Path, begun: str) -> None:
    """Begin a file as a proxy does that was killed before it has signed anything."""
    (directory / f"{begun}.proxy-1.0{RECORDS}").write_bytes(numbered(line_of("log.opened", {"previous": None}), 1) + b"\n")


@pytest.mark.parametrize("left", [(HASHES, CHECKPOINTS), (CHECKPOINTS,), (HASHES,)], ids=",".join)
def test_all_records_of_a_process_were_not_pruned(tmp_path: Path, left: tuple[str, ...]) -> None:
    """`audit prune` leaves the last file; and one that anybody can begin does not stand for it."""
    stems = rotated(tmp_path)
    wrong = without(tmp_path, stems, *{RECORDS, HASHES, CHECKPOINTS} - {*left})
    assert wrong == dict.fromkeys(stems, "its records are missing, and so are all others of its process")
    begun_only(tmp_path, "20261127T120030.000000Z")
    result = verified(tmp_path)
    assert {fault.file: fault.text for fault in result.faults} == dict.fromkeys(
        stems, "its records are missing, and nothing that is signed is behind them"
    )
    assert result.pruned == 0


def test_what_was_pruned_has_signed_heads(tmp_path: Path) -> None:
    stems = rotated(tmp_path)
    assert without(tmp_path, stems[:2], RECORDS, HASHES) == {}
    (note, _) = verified(tmp_path).notes
    assert note.text.endswith("records were removed (pruned), all from before 2026-11-27 12:00:00 UTC; its signed heads are there")
    (tmp_path / (stems[0] + CHECKPOINTS)).write_bytes(b"not one\n\n\n")
    (tmp_path / (stems[1] + CHECKPOINTS)).unlink()
    (tmp_path / (stems[1] + HASHES)).write_bytes(bytes(32))
    wrong = [(fault.file, fault.text) for fault in verified(tmp_path).faults]
    assert {(stem, "its records are missing, and no signed head of them is there") for stem in stems[:2]} <= {*wrong}


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        ("20261127T120030.000000Z", None),
        ("20261127T120300.000000Z", None),  # another clock is ahead
        ("20261127T120600.000000Z", "it has the name of a time that is still to come, and nothing of it is signed"),
        ("99991231T235959.999999Z", "it has the name of a time that is still to come, and nothing of it is signed"),
        ("20261199T120030.000000Z", None),  # no time, and no file of the log
        ("20261127T110000.000000Z", "ends without a closing record"),
    ],
)
def test_a_name_of_a_time_that_is_to_come_makes_no_log_fresh(tmp_path: Path, begun: str, said: str | None) -> None:
    begun_only(tmp_path, "20261127T120030.000000Z")
    assert not verified(tmp_path).faults
    (tmp_path / f"20261127T120030.000000Z.proxy-1.0{RECORDS}").rename(tmp_path / f"{begun}.proxy-1.1{RECORDS}")
    begun_only(tmp_path, "20261127T120030.000000Z")
    faults = [(fault.file, fault.text[: len(said or "")]) for fault in verified(tmp_path).faults]
    assert faults == ([] if said is None else [(f"{begun}.proxy-1.1", said)])


def test_the_supervisor_knows_of_what_a_worker_has_written(tmp_path: Path) -> None:
    clock = Clock()
    worker, supervisor = log(tmp_path, clock), log(tmp_path, clock, number="supervisor")
    write(worker, 20)
    supervisor.append([line_of("log.heads", {"heads": [worker.checkpoint()]})])
    supervisor.close()
    assert not verified(tmp_path).faults
    path = next(tmp_path.glob("*.0.jsonl"))
    for suffix in (RECORDS, HASHES, CHECKPOINTS):
        path.with_suffix(suffix).unlink()
    (fault,) = verified(tmp_path).faults
    assert (fault.file, "missing" in fault.text) == (path.stem, True)


def test_a_directory_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file of an audit log"):
        verified(tmp_path)
    with pytest.raises(ConfigError, match="not a directory"):
        verified(tmp_path / "not")
