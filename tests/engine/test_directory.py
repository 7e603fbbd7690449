"""The engine's directory: where it is made, whose it is, and that what was left behind is removed, but not what is in use."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import structlog

from phiproxy.engine import directory as module
from phiproxy.engine.directory import PREFIX, make_directory, remove_abandoned
from phiproxy.errors import ConfigError
from phiproxy.postgres import binaries
from phiproxy.postgres.binaries import Runner

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")


def test_it_is_fresh_and_nobody_else_s(parent: Path) -> None:
    who = binaries.runner()
    one, other = make_directory(parent, who, 0), make_directory(parent, who, 0)
    assert one.path != other.path
    assert one.path.parent == parent
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o700
    assert one.path.stat().st_uid == (os.geteuid() if who.uid is None else who.uid)
    for made in (one, other):
        made.remove()
        made.remove()
    assert list(parent.iterdir()) == []


def test_it_is_emptied_but_for_its_lock(parent: Path) -> None:
    made = make_directory(parent, Runner(), 0)
    outside = parent / "outside"
    outside.mkdir()
    (outside / "file").touch()
    made.data.mkdir()
    (made.data / "file").touch()
    (made.path / "file").touch()
    (made.path / "link").symlink_to(outside)
    made.empty()
    assert [path.name for path in made.path.iterdir()] == ["lock"]
    assert (outside / "file").exists()
    made.remove()


def test_what_is_in_use_is_left_and_what_is_not_is_removed(parent: Path) -> None:
    used, abandoned = make_directory(parent, Runner(), 0), make_directory(parent, Runner(), 0)
    (abandoned.path / "data").mkdir()
    with structlog.testing.capture_logs() as logs:
        remove_abandoned(parent)
        assert abandoned.path.exists()
        os.close(abandoned.lock)
        remove_abandoned(parent)
    assert not abandoned.path.exists()
    assert used.path.exists()
    assert [entry["directory"] for entry in logs] == [str(abandoned.path)]
    used.remove()


def test_a_process_that_inherits_the_lock_uses_it(parent: Path) -> None:
    made = make_directory(parent, Runner(), 0)
    with subprocess.Popen(["/bin/sleep", "60"], pass_fds=(made.lock,)) as process:
        os.close(made.lock)
        remove_abandoned(parent)
        assert made.path.exists()
        process.kill()
    remove_abandoned(parent)
    assert not made.path.exists()


def test_what_cannot_be_looked_at_is_left(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no lock left, or no descriptor: whoever sweeps goes on, and removes it the next time."""
    made = make_directory(parent, Runner(), 0)
    os.close(made.lock)

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for name in ("fcntl.flock", "pathlib.Path.glob"):
        with monkeypatch.context() as patch:
            patch.setattr(name, refused)
            remove_abandoned(parent)
        assert made.path.exists()
    remove_abandoned(parent)
    assert not made.path.exists()


def test_one_that_is_being_made_is_left(parent: Path) -> None:
    (parent / f"{PREFIX}new").mkdir()
    remove_abandoned(parent)
    assert (parent / f"{PREFIX}new").exists()


def test_in_memory_where_there_is_room_else_on_disk(monkeypatch: pytest.MonkeyPatch, parent: Path) -> None:
    monkeypatch.setattr(module, "MEMORY", parent)
    made = make_directory(None, Runner(), 0)
    assert made.path.parent == parent
    made.remove()
    with structlog.testing.capture_logs() as logs:
        made = make_directory(None, Runner(), 1 << 60)
    assert made.path.parent == Path(tempfile.gettempdir()).resolve()
    # Beside it may stand that what another engine has left was removed.
    assert any(line["event"].startswith("the engine's files are not in memory") for line in logs)
    made.remove()


def test_where_it_cannot_be(parent: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory"):
        make_directory(parent / "nowhere", Runner(), 0)
    deep = parent / ("x" * 90)
    deep.mkdir(mode=0o711)
    with pytest.raises(ConfigError, match="too long for the name of a socket"):
        make_directory(deep, Runner(), 0)
    assert list(deep.iterdir()) == []


@as_root
def test_a_parent_that_the_engine_s_user_cannot_reach(parent: Path) -> None:
    parent.chmod(0o700)
    with pytest.raises(ConfigError, match="cannot reach"):
        make_directory(parent, Runner(65534, 65534), 0)


def test_the_lock_is_held(parent: Path) -> None:
    made = make_directory(parent, Runner(), 0)
    with (made.path / "lock").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    made.remove()
