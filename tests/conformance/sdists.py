"""The tests that a client's source distribution ships, of the version that is installed; they test the installed package."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path

_one_at_a_time = threading.Lock()


def sdist(project: str, cache: Path) -> Path:
    """Return the source distribution of what is installed, downloaded once for each version."""
    version = importlib.metadata.version(project)
    target = cache / f"{project}-{version}"
    with _one_at_a_time:  # several runs of one suite begin together
        found = list(target.glob("*.tar.gz"))
        if not found:
            download = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", project]
            command = [sys.executable, "-m", "pip", *download, "--dest", str(target), f"{project}=={version}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
            assert done.returncode == 0, f"the source distribution of {project} {version} cannot be had:\n{done.stderr}"
            found = list(target.glob("*.tar.gz"))
    assert len(found) == 1, f"{target} holds {len(found)} source distributions"
    return found[0]


def unpack(archive: Path, into: Path, folders: Sequence[str]) -> Path:
    """Unpack these folders and the files beside them; returns the directory that holds them."""
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.isfile() and (m.name.count("/") == 1 or m.name.split("/")[1] in folders)]
        tar.extractall(into, members, filter="data")
    return into / members[0].name.split("/")[0]
