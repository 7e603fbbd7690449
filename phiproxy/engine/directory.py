"""Where the embedded engine's files are: a fresh directory in memory or on disk, wiped at the end, or by another one that runs.

What is held while a directory is in use is a lock on a file in it. Every process of the engine inherits it, so that a directory is
left behind only when none of them lives any longer, whatever became of the proxy.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from phiproxy.errors import ConfigError
from phiproxy.postgres import binaries
from phiproxy.postgres.binaries import Runner

log = structlog.get_logger("phiproxy.engine")
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the name below it
PREFIX = "phiproxy-engine-"
# What a cluster without rows takes, and then some.
EMPTY_CLUSTER = 256 << 20
# sun_path, without its zero byte, less the socket's name and the directory's.
_LONGEST = 107 - len("/.s.PGSQL.5432")


@dataclass
class Directory:
    """A directory of mode 0700 that belongs to whoever runs the engine. ``lock`` is the descriptor that its processes inherit."""

    path: Path
    lock: int

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.path / "data"

    def empty(self) -> None:
        """Remove all that is in it."""
        for entry in self.path.iterdir():
            if entry.name == "lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Remove it with all that is in it; may be called twice."""
        if self.lock >= 0:
            shutil.rmtree(self.path)
            os.close(self.lock)
            self.lock = -1


def make_directory(configured: Path | None, who: Runner, room: int) -> Directory:
    """Make a fresh directory below the configured one, else in memory where there is ``room`` (bytes), else in $TMPDIR.

    What others have left behind is removed first. ConfigError where ``who`` cannot have one there.
    """
    parent = _parent(configured, who, room)
    remove_abandoned(parent)
    try:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise ConfigError(f"compute.directory: nothing can be made in {parent}: {error.strerror}") from None
    if len(str(path).encode()) > _LONGEST:
        path.rmdir()
        raise ConfigError(f"compute.directory: {parent} is too long for the name of a socket in it")
    # Under its name it is locked from the first moment: others look for what nobody has locked.
    lock = os.open(path / "unlocked", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(path / "unlocked", path / "lock")
    who.own(path)
    return Directory(path, lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the directories below ``parent`` of engines of which no process lives any longer; what cannot be looked at is left."""
    try:
        found = list(parent.glob(f"{PREFIX}*"))
    except OSError:  # no descriptor is free, for one: the next time it may be
        return
    for path in found:
        try:
            lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # somebody else's, or one that is being made this moment
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it is in use, or the system has no lock left
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
            log.warning("files of an engine that was not stopped are removed", directory=str(path))
        finally:
            os.close(lock)


def _parent(configured: Path | None, who: Runner, room: int) -> Path:
    if configured is not None:
        if not configured.is_dir():
            raise ConfigError(f"compute.directory: {configured} is no directory")
        if not _traversable(configured.resolve(), who):
            raise ConfigError(f"compute.directory: user id {who.uid}, who runs PostgreSQL, cannot reach {configured}")
        return configured.resolve()
    needed = room + EMPTY_CLUSTER
    with contextlib.suppress(OSError):
        if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= needed:
            return MEMORY
    parent = binaries.roomy_directory(who)
    log.warning("the engine's files are not in memory: /dev/shm is too small", directory=str(parent), needed_mib=needed >> 20)
    return parent


def _traversable(path: Path, who: Runner) -> bool:
    return who.uid is None or all(p.stat().st_mode & 0o001 for p in (path, *path.parents))
