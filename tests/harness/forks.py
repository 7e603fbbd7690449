"""``phiproxy ARGUMENTS`` as a process of its own, without paying the second of CPU time that its imports take each time.

A process that has imported everything waits for command lines and forks once for each: what runs is what ``python -m phiproxy``
would have run, in the environment and on the descriptors it is given. ``python -m tests.harness.forks LINE ASKED`` is that process,
with two descriptors; it ends with the one that started it. Shells have their commands forked by ``fork_client.py``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import json
import os
import secrets
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
from typing import IO, Any

from tests.harness.clusters import copy_clusters

STATUS = struct.Struct("!i")
# Bytes of an order.
MOST = 1 << 20
CLIENT = Path(__file__).with_name("fork_client.py")
COMMANDS = Path(__file__).parents[2] / "phiproxy" / "commands"
MODULES = ("__main__", "app", "worker", "serve_workers", *(f"commands.{path.stem}" for path in sorted(COMMANDS.glob("[a-z]*.py"))))
# What they import when they are run.
LIBRARIES = ("uvloop", "rich._emoji_codes")
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
        self.name = f"phiproxy-forks-{secrets.token_hex(16)}"
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
            asked.bind(f"\0{self.name}")
            asked.listen(100)
            subprocess.Popen(  # ends when our end of the line is closed, at the latest with us
                [sys.executable, "-m", "tests.harness.forks", str(theirs.fileno()), str(asked.fileno())],
                pass_fds=[theirs.fileno(), asked.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=directory,
                env=dict(environment),
            ).returncode = 0  # nobody waits for it

    def close(self) -> None:
        """Let it end."""
        self._line.close()

    def fork(self, order: Mapping[str, object], stdin: int, stdout: int, stderr: int) -> Forked:
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._line, [json.dumps(order).encode()], [stdin, stdout, stderr, theirs.fileno()])
        (pid,) = STATUS.unpack(_exactly(ours, STATUS.size))
        return Forked(pid, ours)


    def know(self, dsn: str) -> None:
        """Have a server asked what each command would ask it by itself."""
        with self._lock:
            self._line.send(json.dumps({"server": dsn}).encode())


_parent: list[_Parent] = []
_servers: list[str] = []
_making = threading.Lock()


def know(dsn: str) -> None:
    """Say which server commands are going to ask: what is the same for each is read once then."""
    with _making:
        _servers.append(dsn)
        for parent in _parent:
            parent.know(dsn)


def forked(arguments: Sequence[str], env: Mapping[str, str], directory: str, stdout: IO[bytes], stderr: IO[bytes]) -> Forked:
    """Start ``phiproxy ARGUMENTS`` with exactly this environment, nothing on standard input."""
    order = {"arguments": list(arguments), "env": dict(env), "directory": directory}
    with open(os.devnull, "rb") as nothing:
        return _the_parent(env, directory).fork(order, nothing.fileno(), stdout.fileno(), stderr.fileno())


def client_command(env: Mapping[str, str], directory: str) -> list[str]:
    """Return the beginning of a command line that runs ``phiproxy ARGUMENTS`` as a fork, with the descriptors that it has itself.

    It lives as long as the fork, passes signals on, and ends as that does.
    """
    return [sys.executable, "-I", "-S", str(CLIENT), _the_parent(env, directory).name]


def _the_parent(env: Mapping[str, str], directory: str) -> _Parent:
    with _making:
        if not _parent:
            _parent.append(_Parent(env, directory))
            atexit.register(_parent[0].close)
            for dsn in _servers:
                _parent[0].know(dsn)
        return _parent[0]


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


class _Forks:
    """What was forked and has not ended: where that is to be told, by a descriptor that can be read at its end."""

    def __init__(self, *listening: socket.socket) -> None:
        self._listening = listening
        self._running: dict[int, tuple[int, socket.socket]] = {}
        self.poll = select.poll()
        for each in listening:
            self.poll.register(each, select.POLLIN)

    def fork(self, order: bytes, fds: Sequence[int]) -> None:
        """Fork a command, and tell its pid."""
        *standard, told = fds
        status = socket.socket(fileno=told)
        status.set_inheritable(False)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for other in (*self._listening, status, *(each for _, each in self._running.values())):
                    other.close()
                for ends in self._running:
                    os.close(ends)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                code = _run(json.loads(order), standard)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)
        for fd in standard:
            os.close(fd)
        with contextlib.suppress(OSError):  # whoever asked may have gone
            status.sendall(STATUS.pack(pid))
        ends = os.pidfd_open(pid)
        self._running[ends] = pid, status
        self.poll.register(ends, select.POLLIN)

    def ended(self, ends: int) -> None:
        """Tell how it has ended."""
        pid, status = self._running.pop(ends)
        self.poll.unregister(ends)
        os.close(ends)
        _, code = os.waitpid(pid, 0)
        with status, contextlib.suppress(OSError):
            status.sendall(STATUS.pack(os.waitstatus_to_exitcode(code)))


def _keep() -> None:
    """Have no collection of garbage in a child copy what is here."""
    gc.collect()
    gc.freeze()


def _read_options(command: Any) -> None:
    """Have what reads the options of a command, and of those below it, be made."""
    for parameter in command.params:
        parameter.get_runtime_param()
    for below in getattr(command, "commands", {}).values():
        _read_options(below)


def _prepare() -> None:
    """Do once what each command does first, whatever its configuration."""
    copy_clusters()
    for name in MODULES:
        import_module(f"phiproxy.{name}")
    for name in LIBRARIES:
        import_module(name)
    _read_options(import_module("phiproxy.cli").command())
    characters = import_module("phiproxy.index.characters")
    for family in characters.FAMILIES:
        characters.character_table(family)
    _keep()


class _OfAnyAddress(dict[tuple[object, ...], object]):
    """What was asked of collations, by host, port, collation and extent: before one server are the taps of many tests."""

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, tuple)
        return super().__contains__(key[2:])

    def __getitem__(self, key: tuple[object, ...]) -> object:
        return super().__getitem__(key[2:])

    def __setitem__(self, key: tuple[object, ...], found: object) -> None:
        super().__setitem__(key[2:], found)


async def _ask(dsn: str) -> None:
    """Ask a server what a process asks once: the signatures of its version, and what its collation makes of all characters."""
    objects = import_module("phiproxy.net.database_objects")
    collations: Any = import_module("phiproxy.keys.registered_collation")
    if not isinstance(collations._observed, _OfAnyAddress):
        vars(collations)["_observed"] = _OfAnyAddress()
    async with await import_module("psycopg").AsyncConnection.connect(dsn, autocommit=True) as conn:

        async def ask(query: str) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = await (await conn.execute(query)).fetchall()
            return rows

        await objects.read_signatures(ask, conn.info.server_version)
        for extent in import_module("phiproxy.index.collations").EXTENTS:
            await collations.observe(conn, extent)


def main() -> None:
    """Fork at each order until the line closes."""
    line, asked = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    _prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks = _Forks(line, asked)
    while True:
        for ready, _ in forks.poll.poll():
            if ready == line.fileno():
                order, fds, _, _ = socket.recv_fds(line, MOST, 4)
                if not order:
                    return
                if fds:
                    forks.fork(order, fds)
                else:
                    with contextlib.suppress(import_module("psycopg").OperationalError):  # it may have gone
                        asyncio.run(_ask(json.loads(order)["server"]))
                    _keep()
            elif ready == asked.fileno():
                client, _ = asked.accept()
                with client:
                    order, fds, _, _ = socket.recv_fds(client, MOST, 4)
                if order:  # its sender lives
                    forks.fork(order, fds)
            else:
                forks.ended(ready)


if __name__ == "__main__":
    main()
