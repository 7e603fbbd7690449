"""Files that nobody can read, or that are far too large: `audit verify` says which and why in one line, and holds little."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from phiproxy.audit.open_log_file import CHECKPOINTS, COMPRESSED, HASHES, RECORDS
from phiproxy.audit.reading import LARGEST, Unreadable, left_behind, records
from phiproxy.audit.records import line_of
from phiproxy.cli import main
from tests.audit.test_verify import SIGNER, Clock, execution, log, only, verified

ARGUMENTS = ["--key", SIGNER.verifier.text, "--as-of", "2026-11-27T12:01"]
MEASURED = """
import re, sys
from phiproxy.cli import main
print(main(sys.argv[1:]), re.search("VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
"""


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """Return a log of 6 records; the name in the fourth is not of ASCII."""
    files = log(tmp_path, Clock())
    files.append([execution(1), execution(2), line_of("login", {"login": "Zoë"}), execution(3)])
    files.close()
    assert (len(verified(tmp_path).faults), verified(tmp_path).proven) == (0, 6)
    return tmp_path


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many KiB it takes to verify a few records."""
    directory = tmp_path_factory.mktemp("usual")
    log(directory, Clock()).append([execution(1)])
    code, memory, _ = measured(directory)
    assert code == 0
    return memory


def with_a_line(directory: Path, number: int, line: bytes) -> None:
    path = only(directory, RECORDS)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[: number - 1], line, *lines[number:], b""]))


def cut_within_a_character(directory: Path) -> None:
    path = only(directory, RECORDS)
    path.write_bytes(path.read_bytes()[: path.read_bytes().index("ë".encode()) + 1])


def zeros_in_a_record(directory: Path) -> None:
    path = only(directory, RECORDS)
    path.write_bytes(path.read_bytes().replace("ë".encode(), b"\0\0"))


def no_utf_8(directory: Path) -> None:
    path = only(directory, RECORDS)
    path.write_bytes(path.read_bytes().replace("ë".encode(), b"\xc3"))


def a_line_of_50_mb(directory: Path) -> None:
    with_a_line(directory, 4, b'{"kind":"' + b"x" * (50 << 20) + b'"}')


def lists_without_end(directory: Path) -> None:
    with_a_line(directory, 4, b"[],[" * (10 << 20))


def instead_of(suffix: str, make: Callable[[Path], object], other: str | None = None) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = only(directory, suffix)
        path.unlink()
        make(path.with_name(path.name.removesuffix(suffix) + (other or suffix)))

    return change


def packed(data: bytes, end: int | None = None) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(gzip.compress(data, 1)[:end])


def far_too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, LARGEST + 1)


UNREAD = ": its records cannot be read:"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut within a character": (cut_within_a_character, ", record 4: cut off: records 4 to 6 are missing"),
    "zeros": (zeros_in_a_record, ", record 4: cut off: records 4 to 6 are missing"),
    "no UTF-8": (no_utf_8, ", record 4: changed: it is not the record that was signed"),
    "a line of 50 MB": (a_line_of_50_mb, ", record 4: changed: it is not the record that was signed"),
    "a line of lists": (lists_without_end, ", record 4: changed: it is not the record that was signed"),
    "a directory": (instead_of(RECORDS, Path.mkdir), f"{UNREAD} it is a directory"),
    "a packed directory": (instead_of(RECORDS, Path.mkdir, COMPRESSED), f"{UNREAD} it is a directory"),
    "a pipe": (instead_of(RECORDS, os.mkfifo), f"{UNREAD} it is no regular file"),
    "a circle": (instead_of(RECORDS, lambda path: path.symlink_to(path)), f"{UNREAD} Too many levels of symbolic links"),
    "not packed": (instead_of(RECORDS, lambda path: path.write_bytes(b"x"), COMPRESSED), f"{UNREAD} it cannot be unpacked"),
    "half of a packed one": (instead_of(RECORDS, packed(b"x" * 99, 20), COMPRESSED), f"{UNREAD} it cannot be unpacked"),
    "a packed line of 300 MB": (
        instead_of(RECORDS, packed(b"x" * (300 << 20)), COMPRESSED), ", record 1: cut off: records 1 to 6 are missing",
    ),
    "500 000 lines": (
        instead_of(RECORDS, packed(b"\n" * 500_000), COMPRESSED), ", record 1: changed: it is not the record that was signed",
    ),
    "checkpoints in a directory": (instead_of(CHECKPOINTS, Path.mkdir), ": its checkpoints cannot be read: it is a directory"),
    "hashes that are a directory": (instead_of(HASHES, Path.mkdir), ": its hashes cannot be read: it is a directory"),
    "checkpoints without end": (
        instead_of(CHECKPOINTS, far_too_large), ": its checkpoints cannot be read: it is larger than 256 MiB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_is_said_which_file_and_why(closed: Path, usual: int, damage: str) -> None:
    """In a process of its own, whose memory is compared with that of one that verifies 6 records."""
    stem = only(closed, RECORDS).stem
    change, said = DAMAGE[damage]
    change(closed)
    code, memory, out = measured(closed)
    assert code == 1
    wrong = [line for line in out.splitlines() if line.startswith("WRONG: ")]
    assert wrong[0].startswith(f"WRONG: {stem}{said}"), wrong
    # Where the checkpoints cannot be read, nothing is proven, which is said too.
    assert len(wrong) == 1 + damage.startswith("checkpoints"), wrong
    most = 350 if damage == "checkpoints without end" else 70
    assert memory - usual < most << 10


def measured(directory: Path) -> tuple[int, int, str]:
    """Return the exit code, how many KiB it took, and what was said."""
    command = [sys.executable, "-c", MEASURED, "audit", "verify", str(directory), *ARGUMENTS]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    code, memory = ended.stdout.splitlines()[-1].split()
    return int(code), int(memory), ended.stdout


@pytest.mark.parametrize("suffix", [RECORDS, CHECKPOINTS, HASHES])
def test_what_may_not_be_read_is_named(
    closed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    refused, really = only(closed, suffix), os.open

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", opened)
    assert main(["audit", "verify", str(closed), *ARGUMENTS]) == 1
    out = capsys.readouterr().out
    name = {RECORDS: "records", CHECKPOINTS: "checkpoints", HASHES: "hashes"}[suffix]
    assert out.startswith(f"WRONG: {refused.stem}: its {name} cannot be read: Permission denied\n")


def test_the_other_files_are_verified_all_the_same(tmp_path: Path) -> None:
    files = log(tmp_path, Clock(), size=1500)
    for number in range(40):
        files.append([execution(number)])
    files.close()
    paths = sorted(tmp_path.glob("*" + RECORDS))
    whole = verified(tmp_path)
    size = len(paths[1].read_bytes().splitlines())
    paths[1].unlink()
    paths[1].mkdir()
    result = verified(tmp_path)
    assert [(fault.file, fault.text) for fault in result.faults] == [
        (paths[1].stem, "its records cannot be read: it is a directory")
    ]
    assert result.proven == whole.proven - size


def test_a_search_says_which_file_cannot_be_read(closed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = only(closed, RECORDS)
    path.unlink()
    path.mkdir()
    for command in "search", "export":
        assert main(["audit", command, str(closed)]) == 1
        assert capsys.readouterr().err.startswith(f"phiproxy: {path} cannot be read: it is a directory")
    with pytest.raises(Unreadable):
        [*records(closed)]
    assert left_behind(closed, ("proxy-1", "0")) == (None, {}), "a proxy goes on with another file"


def test_a_line_of_any_length_is_hashed(tmp_path: Path) -> None:
    """A genuine one that is longer than any record can be is proven, and is no record to whoever reads it."""
    files = log(tmp_path, Clock())
    files.append([execution(1), line_of("login", {"login": "x" * (9 << 20)}), execution(2)])
    files.close()
    result = verified(tmp_path)
    assert (result.faults, result.proven) == ([], 5)
    assert [record["sequence"] for record in records(tmp_path)] == [1, 2, 4, 5]


def test_a_large_log_is_not_held(usual: int, tmp_path: Path) -> None:
    files = log(tmp_path, Clock(), size=8 << 20)
    for number in range(20):
        files.append([line_of("login", {"login": "x" * 1000, "number": number}) for _ in range(3000)])
    files.close()
    lines = sum(path.stat().st_size for path in tmp_path.glob("*" + RECORDS))
    assert lines > 60_000_000
    code, memory, out = measured(tmp_path)
    assert (code, "nothing was changed" in out) == (0, True)
    assert memory - usual < 20 << 10
