"""What a phiproxy command over full tables does, phase by phase: how long each took, and what it cost job and server.

Under load the clock says little of a program: so it is told apart what a process computed, what it waited for a core, and what it
slept, which is what it waited for others.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.measures import cpu_seconds
from benchmarks.site import CHECKOUT, phiproxy

Owner = psycopg.Connection[tuple[object, ...]]


class Used(NamedTuple):
    """Seconds: of CPU of the job, and of the server's processes that work for it, and those for which the job waited for a core."""

    job: float = 0.0
    server: float = 0.0
    queued: float = 0.0

    def since(self, before: Used) -> Used:
        """Return what was used since."""
        return Used(self.job - before.job, self.server - before.server, self.queued - before.queued)


class Phase(NamedTuple):
    """A phase of a command that is over: its name, its seconds, what was used in it, and for how long proxies held statements.

    The latter is said of a whole command: its last phase has it.
    """

    name: str
    seconds: float
    used: Used
    held: float = 0.0


def phases(owner: Owner, arguments: list[str], told: Callable[[str], None], minutes: float = 60) -> Iterator[Phase]:
    """Run a command with ``--json`` and yield each of its phases when it is over; what it waits for, and held, is ``told``.

    SystemExit when it fails, or is ended since it takes more than so many minutes.
    """
    process = subprocess.Popen(phiproxy(*arguments), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(minutes * 60, process.kill)
    timer.daemon = True
    timer.start()
    assert process.stdout is not None
    phase, began, rest, used = "start", time.monotonic(), "", Used()
    for line in process.stdout:
        report = json.loads(line) if line.startswith('{"') else {}
        rest += "" if report else line
        if report.get("waits"):
            told(f"  waits: {report['waits']}")
        if report.get("phase", phase) != phase:
            now = _used(owner, process.pid)
            yield Phase(phase, time.monotonic() - began, now.since(used))
            phase, began, used = report["phase"], time.monotonic(), now
    last = time.monotonic() - began
    failed = process.wait()
    late = timer.finished.is_set()
    timer.cancel()
    if failed:
        why = f"was ended in phase {phase!r}: it takes more than {minutes:.0f} minutes" if late else f"has failed (status {failed})"
        raise SystemExit(f"phiproxy {arguments[0]} {why}")
    held = json.loads(rest)["held_ms"] if "held_ms" in rest else 0
    if held:
        told(f"  statements were held for {held} ms")
    yield Phase(phase, last, Used(), held / 1e3)


def _used(owner: Owner, pid: int) -> Used:
    rows = owner.execute(b"SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'phiproxy job%'").fetchall()
    return Used(cpu_seconds([pid]), cpu_seconds([int(str(backend)) for (backend,) in rows]), _queued(pid))


def _queued(pid: int) -> float:
    """Return the seconds for which the first thread of a process could have gone on, had there been a core; 0 where nobody says."""
    exact = Path(f"/proc/{pid}/schedstat")
    return int(exact.read_text(encoding="ascii").split()[1]) / 1e9 if exact.exists() else 0.0


def rewrite_in_sql(owner: Owner, columns: Sequence[str], rows: bytes, table: str, indexes: str) -> tuple[float, float]:
    """Return in how many seconds the server rewrites columns of all rows of a table of plain texts, and those of CPU.

    ``table`` is what CREATE TABLE has in its parentheses, of a table ``copied``, ``rows`` are in COPY's format.
    """
    owner.execute(f"CREATE TABLE copied ({table})".encode())
    with owner.cursor().copy(b"COPY copied FROM STDIN") as copy:
        copy.write(rows)
    owner.execute(indexes.encode())
    owner.execute(b"VACUUM ANALYZE copied")
    began, before = time.monotonic(), cpu_seconds([owner.info.backend_pid])
    owner.execute(("UPDATE copied SET " + ", ".join(f"{column} = {column} || ''" for column in columns)).encode())
    seconds, cpu = time.monotonic() - began, cpu_seconds([owner.info.backend_pid]) - before
    owner.execute(b"DROP TABLE copied")
    return seconds, cpu
