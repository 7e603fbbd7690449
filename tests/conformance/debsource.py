"""Debian's source packages: fetched by apt with directories of its own, so that nothing of the machine's is changed.

Only what the authors released is unpacked, without Debian's patches. Where there is no apt, no network or no such package, the
caller is told why in one sentence.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Behind the machine's own release, those that have what it does not: PostgreSQL 15 and 17.
RELEASES = ("bookworm", "trixie")


class NoSource(Exception):
    """The source package cannot be had; the text says why."""


def source_package(name: str, cache: Path) -> Path:
    """Return the directory of an unpacked source package, fetched once. Raises NoSource."""
    target = (cache / name).resolve()
    found = _unpacked(target)
    if found is not None:
        return found
    if shutil.which("apt-get") is None or not KEYRING.is_file():
        raise NoSource(f"the source package {name} cannot be had here: there is no apt-get, or no keyring of Debian's")
    said = ""
    for release in dict.fromkeys((_codename(), *RELEASES)):
        if release:
            said = _fetch(name, release, target)
            archives = [p for p in target.glob("*.orig.tar.*") if not p.name.endswith(".asc")]
            if archives:
                with tarfile.open(archives[0]) as tar:
                    tar.extractall(target, filter="data")
                found = _unpacked(target)
                assert found is not None
                return found
    raise NoSource(f"the source package {name} cannot be had here: {said}")


def _unpacked(target: Path) -> Path | None:
    return next((path for path in target.glob("*") if path.is_dir() and path.name != "apt"), None)


def _codename() -> str:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return ""
    return system.get("VERSION_CODENAME", "") if system.get("ID") == "debian" else ""


def _fetch(name: str, release: str, target: Path) -> str:
    """Download a source package of one release, and return apt's last words."""
    apt = target / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {MIRROR} {release} main\n")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/nonexistent",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 2,
    }
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    said = ""
    for command in (["update"], ["--download-only", "source", name]):
        done = subprocess.run(
            ["apt-get", "-q", *flags, *command], cwd=target, capture_output=True, text=True, check=False, timeout=300
        )
        words = [line for line in done.stderr.splitlines() if line.startswith("E: ")]
        said = words[0] if words else f"apt says nothing of {release}"
        if done.returncode:
            break
    return said
