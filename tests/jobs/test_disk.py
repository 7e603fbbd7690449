"""What room a conversion takes, in words, and of which directory it is believed that it is the server's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phiproxy.jobs.disk import Need, _looked, spelled


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (10239, "10239 bytes"), (614400, "600 kB"), (3 << 30, "3072 MB"), (5 << 40, "5120 GB"), (50 << 40, "50 TB")],
)
def test_bytes_are_spelled_as_postgresql_does(size: int, text: str) -> None:
    assert spelled(size) == text


def test_each_tablespace_is_named() -> None:
    need = Need("public.t", 7, 614400, 20480, {(2, "small"): 1 << 20, (1, "pg_default"): 8192})
    more = "8192 bytes more in pg_default, 1024 kB more in small"
    assert need.text == f"public.t: about 7 rows, 600 kB; up to about {more}, and 20 kB of WAL"
    assert need.as_json()["more_bytes"] == {"small": 1 << 20, "pg_default": 8192}


def test_a_directory_of_the_same_name_may_be_of_another_server(tmp_path: Path) -> None:
    """By the identifier in its control file, and by when it was started: a standby of the same server has the former too."""
    (tmp_path / "global").mkdir()
    assert _looked(tmp_path, -5, 1000, {0: str(tmp_path)}) is None
    (tmp_path / "global" / "pg_control").write_bytes((-5).to_bytes(8, sys.byteorder, signed=True) + b"more")
    (tmp_path / "postmaster.pid").write_text(f"17\n{tmp_path}\n1003\n5432\n")
    free = _looked(tmp_path, -5, 1000, {0: str(tmp_path)})
    assert free is not None
    assert free[0].bytes > 0
    assert _looked(tmp_path, 5, 1000, {0: str(tmp_path)}) is None
    assert _looked(tmp_path, -5, 2000, {0: str(tmp_path)}) is None
    assert _looked(tmp_path, -5, 1000, {0: str(tmp_path / "gone")}) is None
