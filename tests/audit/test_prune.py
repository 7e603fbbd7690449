"""Old records are let go of, and their signed heads are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from phiproxy.audit.checkpoints import Signer
from phiproxy.audit.log_files import LogFiles, Rotation, Writer
from phiproxy.audit.open_log_file import RECORDS
from phiproxy.audit.prune import prunable, prune
from phiproxy.audit.reading import stored_files
from phiproxy.audit.records import line_of
from phiproxy.audit.verify import verify
from tests.audit.test_verify import BEGAN, SIGNER, Clock, log


def test_pruned_are_whole_files_from_the_first_on(tmp_path: Path) -> None:
    clock = Clock()
    files = LogFiles(tmp_path, Writer("proxy-1", "0"), Signer(SIGNER.name, bytes(range(32))), Rotation(1 << 20), now=clock)
    for _ in range(4):
        files.append([line_of("login", {})])
        clock.now += timedelta(days=1)
    future = datetime.now(UTC) + timedelta(days=1)
    assert prunable(tmp_path, BEGAN - timedelta(days=3000)) == []
    chosen = prunable(tmp_path, future)
    assert len(chosen) == 3, "the open file stays"
    prune(chosen[:2])
    result = verify(tmp_path, [SIGNER.verifier], BEGAN + timedelta(days=3))
    assert (result.faults, result.pruned) == ([], 6)
    assert len(list(tmp_path.glob("*.checkpoints"))) == 4


def test_the_last_file_of_each_process_stays(tmp_path: Path) -> None:
    """However old it is, also behind one that was begun and not signed: without it nothing is told from what was taken away."""
    for number in "0", "1":
        clock = Clock()
        for _ in range(3):
            files = log(tmp_path, clock, number=number)
            files.append([line_of("login", {})])
            files.close()
    (tmp_path / ("20261128T120000.000000Z.proxy-1.0" + RECORDS)).write_bytes(b"")
    prune(prunable(tmp_path, datetime.now(UTC) + timedelta(days=1)))
    kept = [file for file in stored_files(tmp_path) if file.has_records and [*file.lines()]]
    assert [file.writer[1] for file in kept] == ["0", "1"]
    result = verify(tmp_path, [SIGNER.verifier], BEGAN + timedelta(days=1))
    assert (result.faults, result.pruned) == ([], 12)
