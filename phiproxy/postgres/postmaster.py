"""A PostgreSQL server as a process: its data directory made, started, awaited and stopped; what it is for, others know."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from phiproxy.errors import PhiproxyError
from phiproxy.postgres import binaries
from phiproxy.postgres.binaries import Runner

# Seconds that a server has to take connections after it was launched.
START_PATIENCE = 60.0
POLL = 0.02
_STOPPING = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0))


def initdb(who: Runner, bindir: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run initdb over ``data``, beside which it is run; the caller judges the outcome."""
    return subprocess.run(
        who.command(bindir / "initdb", "-D", str(data), *options),
        capture_output=True,
        text=True,
        cwd=data.parent,
        env=binaries.environment(),
        check=False,
    )


def write_settings(data: Path, settings: Mapping[str, str]) -> None:
    """Add settings to those that the data directory starts with; their values must hold no quote."""
    with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())


def launch(
    who: Runner, bindir: Path, data: Path, *arguments: str, output: IO[bytes] | int, inherited: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a postmaster that does not outlive the calling thread, which must therefore be one that stays.

    ``inherited`` are descriptors that stay open for as long as any of its processes lives.
    """
    return subprocess.Popen(
        who.command(bindir / "postgres", "-D", str(data), *arguments, parent=os.getpid()),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=data.parent,
        env=binaries.environment(),
        start_new_session=True,  # Ctrl-C at the terminal is for us: the server goes last
        pass_fds=inherited,
    )


def is_ready(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Tell whether it takes connections, by postmaster.pid: a connection would make noise in its log."""
    try:
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready"


def wait_ready(process: subprocess.Popen[bytes], data: Path, patience: float = START_PATIENCE) -> bool:
    """Wait until it takes connections; False where it ended, or did not within ``patience`` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end and process.poll() is None:
        if is_ready(process, data):
            return True
        time.sleep(POLL)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Shut down fast, kill what does not obey."""
    for sign, patience in _STOPPING:
        process.send_signal(sign)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue
    raise PhiproxyError(f"PostgreSQL's process {process.pid} cannot be killed")


def kill_orphans(data: Path) -> None:
    """Kill what still works in a data directory whose postmaster is gone (Linux: what has it as its working directory)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == data:
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it ended, or it is not ours
            continue


def last_words(text: str) -> str:
    """Return the last two lines that say something: the second last often has the cause."""
    lines = [line.strip() for line in text.splitlines()]
    said = [m[2] for line in lines if (m := re.search(r"\b(LOG|FATAL|PANIC|ERROR|error): +(.*)", line))]
    return "; ".join((said or [line for line in lines if line] or ["it said nothing"])[-2:])
