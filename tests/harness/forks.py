"""``phiproxy ARGUMENTS`` as a process of its own, without paying the second of CPU time that its imports take each time.

A process that has imported everything waits for command lines and forks once for each: what runs is what ``python -m phiproxy``
would have run, in the environment and on the descriptors it is given. ``python -m tests.harness.forks FD`` is that process; it ends
with the one that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO

STATUS = struct.Struct("!i")
COMMANDS = Path(__file__).parents[2] / "phiproxy" / "commands"
MODULES = ("__main__", "app", "worker", "serve_workers", *(f"commands.{path.stem}" for path in sorted(COMMANDS.glob("[a-z]*.py"))))
# An interpreter, or a library, reads these as it starts.
READ_AT_START = ("PYTHON", "OPENSSL_", "LD_", "MALLOC_")


def can_be_forked(arguments: Sequence[str], extra: Mapping[str, str]) -> bool:
    """Say whether a fork does as well: nothing in ``extra`` is for the interpreter; the demo is a program of its own."""
    return not any(name.startswith(READ_AT_START) for name in extra) and tuple(arguments[:1]) != ("demo",)


class Forked:
    """What ``subprocess.Popen`` offers, of a process that was forked elsewhere."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Forked {self.pid}, returncode {self.returncode}>"

    def poll(self) -> int | None:
        """Return the exit status if the process has ended: negative is the signal that ended it."""
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], 0)[0]:
                (self.returncode,) = STATUS.unpack(_exactly(self._status, STATUS.size))
                self._status.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises ``subprocess.TimeoutExpired``."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"forked {self.pid}", timeout or 0)
            with contextlib.suppress(OSError, ValueError):  # another thread was first
                select.select([self._status], [], [], 0.05)
        return code

    def send_signal(self, sign: int) -> None:
        """Send it, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The process that forks, and our end of the line to it."""

    def __init__(self, environment: Mapping[str, str], directory: str) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        subprocess.Popen(  # ends when our end of the line is closed, at the latest with us
            [sys.executable, "-m", "tests.harness.forks", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=directory,
            env=dict(environment),
        ).returncode = 0  # nobody waits for it
        theirs.close()

    def close(self) -> None:
        """Let it end."""
        self._line.close()

    def fork(self, order: Mapping[str, object], stdin: int, stdout: int, stderr: int) -> Forked:
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._line, [json.dumps(order).encode()], [stdin, stdout, stderr, theirs.fileno()])
        (pid,) = STATUS.unpack(_exactly(ours, STATUS.size))
        return Forked(pid, ours)


_parent: list[_Parent] = []
_making = threading.Lock()


def forked(arguments: Sequence[str], env: Mapping[str, str], directory: str, stdout: IO[bytes], stderr: IO[bytes]) -> Forked:
    """Start ``phiproxy ARGUMENTS`` with exactly this environment, nothing on standard input."""
    with _making:
        if not _parent:
            _parent.append(_Parent(env, directory))
            atexit.register(_parent[0].close)
    order = {"arguments": list(arguments), "env": dict(env), "directory": directory}
    with open(os.devnull, "rb") as nothing:
        return _parent[0].fork(order, nothing.fileno(), stdout.fileno(), stderr.fileno())


def _exactly(peer: socket.socket, size: int) -> bytes:
    found = peer.recv(size, socket.MSG_WAITALL)
    if len(found) != size:
        raise AssertionError("the process that forks has ended")
    return found


def _run(order: Mapping[str, object], fds: Sequence[int]) -> int:
    """Be the command: in the child."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    arguments, env = order["arguments"], order["env"]
    assert isinstance(arguments, list)
    assert isinstance(env, dict)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(order["directory"]))
    program = sys.modules["__main__"] = import_module("phiproxy.__main__")
    sys.argv = [str(program.__file__), *arguments]
    try:
        code: int = import_module("phiproxy.cli").main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _watch(order: Mapping[str, object], fds: Sequence[int]) -> None:
    """Fork the command, and tell its pid and how it ended: in a process between, whose only child it is."""
    *standard, told = fds
    with socket.socket(fileno=told) as status:
        pid = os.fork()
        if pid == 0:
            status.close()
            code = 1
            try:
                code = _run(order, standard)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)
        for fd in standard:
            os.close(fd)
        with contextlib.suppress(OSError):  # whoever asked may have gone
            status.sendall(STATUS.pack(pid))
        _, ended = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            status.sendall(STATUS.pack(os.waitstatus_to_exitcode(ended)))


def main() -> None:
    """Fork at each order until the line closes."""
    line = socket.socket(fileno=int(sys.argv[1]))
    for name in MODULES:
        import_module(f"phiproxy.{name}")
    gc.collect()
    gc.freeze()  # what is here is not to be copied into each child by a collection there
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries those between
    while True:
        said, fds, _, _ = socket.recv_fds(line, 1 << 20, 4)
        if not said:
            return
        if os.fork() == 0:
            line.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _watch(json.loads(said), fds)
            finally:
                os._exit(0)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
