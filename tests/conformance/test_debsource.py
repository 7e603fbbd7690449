"""Debian's source packages: what can be had is unpacked once, and what cannot is said."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import debsource
from tests.conformance.debsource import NoSource, source_package


class Apt:
    """An apt-get whose mirror has one package in one release."""

    def __init__(self, release: str, source: Path) -> None:
        self.release, self.source = release, source
        self.asked: list[str] = []

    def run(self, command: Sequence[str], *, cwd: Path, **_: Any) -> subprocess.CompletedProcess[str]:
        sources = (cwd / "apt" / "sources.list").read_text()
        self.asked.append(f"{command[-1]} {sources.split()[3]}")
        if command[-1] == "update":
            return subprocess.CompletedProcess(command, 0, "", "")
        if self.release not in sources:
            return subprocess.CompletedProcess(command, 100, "", "W: nothing\nE: Unable to find a source package\nE: Failed\n")
        with tarfile.open(cwd / "thing_1.orig.tar.gz", "w:gz") as tar:
            tar.add(self.source, "thing-1")
        (cwd / "thing_1.orig.tar.gz.asc").touch()
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "README").write_text("here")
    return tmp_path / "thing"


@pytest.fixture(autouse=True)
def _debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(debsource, "KEYRING", keyring)
    monkeypatch.setattr(debsource, "_codename", lambda: "sid")
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/apt-get")


def test_the_first_release_that_has_it_gives_it_once(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    apt = Apt("bookworm", source)
    monkeypatch.setattr(subprocess, "run", apt.run)
    for _ in range(2):
        assert (source_package("thing", tmp_path / "cache") / "README").read_text() == "here"
    assert apt.asked == ["update sid", "thing sid", "update bookworm", "thing bookworm"]


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(subprocess, "run", Apt("none", source).run)
    with pytest.raises(NoSource, match="thing cannot be had here: E: Unable to find"):
        source_package("thing", tmp_path / "cache")
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(NoSource, match="no apt-get"):
        source_package("thing", tmp_path / "cache")
