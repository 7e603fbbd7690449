"""initdb once for a run: where a cluster is made as one was made before, it is a copy of that with a password of its own.

initdb takes more than a second of CPU time, a copy a tenth of that; engines and servers of tests' own are made by the dozen.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phiproxy.postgres import binaries, postmaster
from phiproxy.postgres.binaries import Runner

# Where those that were made are kept; processes that are started inherit it.
PLACE = "TESTS_CLUSTERS"
_PASSWORD = "--pwfile="
_genuine = postmaster.initdb


@contextmanager
def kept_clusters() -> Iterator[None]:
    """Have clusters be copied, in this process and in those that call ``copy_clusters``, until this ends."""
    with tempfile.TemporaryDirectory(prefix="phiproxy-clusters-", dir=binaries.roomy_directory(binaries.runner())) as place:
        os.environ[PLACE] = place
        copy_clusters()
        try:
            yield
        finally:
            postmaster.initdb = _genuine
            del os.environ[PLACE]


def copy_clusters() -> None:
    """Have clusters be copied in this process, and in its forks, if a process that has started it keeps them."""
    if PLACE in os.environ:
        postmaster.initdb = _made_or_copied


def _made_or_copied(who: Runner, bindir: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """As ``postmaster.initdb``. One without a password is made: those are tests of initdb."""
    others = [option for option in options if not option.startswith(_PASSWORD)]
    place = Path(os.environ.get(PLACE, ""))
    if len(others) == len(options) or not place.is_absolute():
        return _genuine(who, bindir, data, *options)
    kept = place / _key(who, bindir, others)
    if not kept.is_dir():
        done = _genuine(who, bindir, data, *options)
        if done.returncode == 0:
            _keep(data, kept)
        return done
    _copy(kept, data)
    (password,) = (Path(option.removeprefix(_PASSWORD)).read_text().strip() for option in options if option not in others)
    # As a user of its own, and without a server that others could reach.
    return subprocess.run(
        who.command(bindir / "postgres", "--single", "-F", "-D", str(data), "template1"),
        input=f"ALTER ROLE \"{others[others.index('-U') + 1]}\" PASSWORD '{password}'\n",
        capture_output=True,
        text=True,
        cwd=data.parent,
        env=binaries.environment(),
        check=False,
    )


def _key(who: Runner, bindir: Path, options: list[str]) -> str:
    """Return what clusters have in common that are alike: programs are known as they are copied, elsewhere, with their times."""
    program = (bindir / "postgres").stat()
    return hashlib.sha256(repr((who, program.st_size, int(program.st_mtime), options)).encode()).hexdigest()


def _keep(data: Path, kept: Path) -> None:
    """Keep a copy: as a whole, or not, where another process is about to keep one."""
    making = Path(tempfile.mkdtemp(dir=kept.parent)) / "data"
    _copy(data, making)
    try:
        making.rename(kept)
    except OSError:  # another one is there
        shutil.rmtree(making)
    making.parent.rmdir()


def _copy(source: Path, target: Path) -> None:
    """Copy a directory with its owner and modes."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
