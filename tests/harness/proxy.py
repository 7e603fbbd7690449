"""The real proxy as a subprocess, its log kept; and the command line as a user runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from tests.harness.forks import Forked, can_be_forked, forked

ROOT = Path(__file__).resolve().parents[2]
# Seconds from a signal to the end: a machine that has much else to do is slow.
END_PATIENCE = 100.0
# Seconds for a command: a test itself has a limit, which is shorter for most.
COMMAND_PATIENCE = 1200.0


def command(*arguments: str) -> list[str]:
    """Return the command line of ``phiproxy ARGUMENTS``; a module of the checkout, so that nothing need be installed."""
    return [sys.executable, "-m", "phiproxy", *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without coverage of chance (PG*, PHIPROXY_*) and with ``extra``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PHIPROXY_"))}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT), **(extra or {})}


def run_cli(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    timeout: float = COMMAND_PATIENCE,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run ``phiproxy ARGUMENTS`` to its end; with ``check`` a failure shows what it said. ``fresh``: not a fork, see forks.py."""
    if not fresh and can_be_forked(arguments, env or {}):
        done = _run_forked(arguments, env, timeout)
    else:
        done = subprocess.run(
            command(*arguments), env=environment(env), cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout
        )
    if check and done.returncode != 0:
        raise AssertionError(f"phiproxy {' '.join(arguments)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def _run_forked(arguments: Sequence[str], env: Mapping[str, str] | None, timeout: float) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = forked(arguments, environment(env), str(ROOT), out, err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess([*arguments], code, *said)


@dataclass
class ProxyUnderTest:
    """``with ProxyUnderTest(config, port, log_path, env):`` runs ``phiproxy serve`` and waits until it listens.

    ``fresh``: as a new process of the interpreter, not a fork of one that has imported everything.
    """

    config: Path
    port: int
    log_path: Path
    env: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | Forked | None = None
    fresh: bool = False

    def dsn(self, dbname: str, user: str, password: str) -> str:
        """Return a URI through the proxy."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(dbname, safe='')}?sslmode=disable"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def resident(self) -> int:
        """The memory of the process that is resident, in bytes; Linux tells it."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def start(self, patience: float = 120.0) -> Self:
        """Start it and wait for the port; its last words are the failure's text."""
        with self.log_path.open("ab") as log:
            self.process = self._launch(log)
        end = time.monotonic() + patience
        while time.monotonic() < end and self.running:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((self.host, self.port)) == 0:
                    return self
            time.sleep(0.03)
        self.kill()
        raise AssertionError(f"the proxy does not listen:\n{self.log_path.read_text('utf-8', 'replace')[-2000:]}")

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes] | Forked:
        arguments, env = ("serve", "-c", str(self.config)), environment(self.env)
        if not self.fresh and can_be_forked(arguments, self.env):
            return forked(arguments, env, str(ROOT), log, log)
        return subprocess.Popen(command(*arguments), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=ROOT)

    def rest(self) -> None:
        """Stop it where it is, until ``wake``: one that nobody asks looks at the catalogue each second all the same."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on: a proxy that has not had the processor for a long time."""
        self._signal(signal.SIGCONT)

    def _signal(self, sign: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sign)

    def kill(self) -> None:
        """Kill -9: nothing is flushed, drained or said."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, then wait until it has drained; returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, sign: signal.Signals) -> int:
        if self.process is None:
            return 0
        self._signal(sign)
        self.wake()
        try:
            return self.process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise AssertionError(f"the proxy did not end within {END_PATIENCE:g} s of the signal") from None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.wake()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
