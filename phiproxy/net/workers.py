"""Worker processes that accept from the same listening sockets, and the supervisor that keeps them alive.

The sockets are bound once and inherited: closing a listener of SO_REUSEPORT would drop the connections queued on it. Workers are
fresh interpreters: a fork would copy the supervisor's event loop and its thread for metrics in whatever state they are. Supervisor
and worker speak through a socket pair of their own, whose end is also how each learns of the other's death: a worker whose
supervisor was killed ends, so none is orphaned and keeps the port. Signals are the supervisor's business; a worker ignores those
that a terminal or a service manager sends to the whole group. The supervisor knows of what a worker does only the orders it takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from phiproxy.errors import ConfigError
from phiproxy.net.tasks import spawn
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings

log = structlog.get_logger("phiproxy.workers")

# Bits of the number that says which workers are of one proxy.
GROUP_BITS = 47
# A worker that dies sooner is not replaced at once: each time it waits twice as long, up to half a minute.
SETTLED = 10.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 30.0
# What a worker may take to end when it was told to, before it is killed.
GRACE = 10.0


class Configuration(NamedTuple):
    """What a worker serves."""

    settings: Settings
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """The first order. ``sockets`` and ``slots`` are inherited file descriptors, ``group`` is common to all workers.

    ``engine`` is what reaches the engine of split statements, None without one.
    """

    configuration: Configuration
    sockets: tuple[int, ...]
    slots: int
    workers: int
    index: int
    group: int
    engine: object = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """See whether a configuration fits, without taking it."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Take:
    """Go on with what was prepared."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no more sessions, and end when those there are have ended, or the time is over."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End now."""


Order = Start | Prepare | Take | Drain | Stop


class Channel:
    """One end of the socket pair: a length, then a pickled order, or a report (a word and a text) as JSON."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """Take over a socket."""
        return cls(*await asyncio.open_connection(sock=sock))

    def order(self, order: Order) -> None:
        """Tell a worker what to do."""
        self._send(pickle.dumps(order))

    def report(self, word: str, text: str = "") -> None:
        """Tell the supervisor how it went."""
        self._send(json.dumps([word, text]).encode())

    async def next_order(self) -> Order | None:
        """Wait for the next order; None when there is no supervisor any longer."""
        data = await self._receive()
        # The other end is the supervisor's: this process is its child.
        order: Order | None = None if data is None else pickle.loads(data)  # noqa: S301
        return order

    async def next_report(self) -> tuple[str, str] | None:
        """Wait for the next report; None when there is no worker any longer."""
        data = await self._receive()
        if data is None:
            return None
        word, text = json.loads(data)
        return str(word), str(text)

    async def close(self) -> None:
        """Send what is left and close."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _send(self, data: bytes) -> None:
        self._writer.write(len(data).to_bytes(4, "big") + data)

    async def _receive(self) -> bytes | None:
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return None


@dataclass
class _Worker:
    """A worker process. ``settled`` is done when it serves or has failed to start, then with why."""

    process: subprocess.Popen[bytes]
    channel: Channel
    configuration: Configuration
    settled: asyncio.Future[str]
    told_head: Callable[[dict[str, Any]], None]
    answer: asyncio.Future[str] | None = None
    reasons: tuple[str, ...] | None = None

    @property
    def serves(self) -> bool:
        return self.settled.done() and not self.settled.result() and self.process.poll() is None

    async def ask(self, order: Prepare | Take) -> str:
        """Have it do something; returns the complaint, which is empty for one that died meanwhile."""
        self.answer = asyncio.get_running_loop().create_future()
        self.channel.order(order)
        return await self.answer

    async def reaped(self) -> int:
        """Follow its reports to the end, and return its exit status."""
        while (report := await self.channel.next_report()) is not None:
            word, text = report
            if word in ("ready", "failed"):
                self.settled.set_result(text)
            elif word == "readiness":
                self.reasons = tuple(text.splitlines())
            elif word == "audit":
                self.told_head(json.loads(text))
            elif self.answer is not None and not self.answer.done():
                self.answer.set_result(text)
        try:
            status = await asyncio.to_thread(self.process.wait, GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = await asyncio.to_thread(self.process.wait)
        if not self.settled.done():
            self.settled.set_result(f"a worker ended with status {status} before it served")
        if self.answer is not None and not self.answer.done():
            self.answer.set_result("")
        await self.channel.close()
        return status


class Supervisor:
    """Keeps ``count`` workers serving ``configuration``. ``gone`` is told the index and process id of each that ended."""

    def __init__(
        self,
        configuration: Configuration,
        count: int,
        *,
        sockets: Sequence[socket.socket],
        slots: int,
        environment: Mapping[str, str],
        gone: Callable[[int, int], None],
        engine: object = None,
    ) -> None:
        self._engine = engine
        self.configuration = configuration
        self._count = count
        self._sockets = tuple(sock.fileno() for sock in sockets)
        self._slots = slots
        self._environment = environment
        self._group = secrets.randbits(GROUP_BITS)
        self._gone = gone
        self._workers: dict[int, _Worker] = {}
        self._keeping: list[asyncio.Task[Any]] = []
        self._ending = False
        self._judged = asyncio.Event()
        self._reloading = asyncio.Lock()
        self.told_head: Callable[[dict[str, Any]], None] = lambda _: None
        """Told how far a worker's audit log goes."""

    @property
    def serving(self) -> int:
        """How many workers take clients."""
        return 0 if self._ending else sum(worker.serves for worker in self._workers.values())

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why clients should not be sent here: what any worker has found; none when all are ready. Read from any thread."""
        if not self._judged.is_set():
            return ("not all workers have started",)
        if not self.serving:
            return ("no worker serves",)
        told = [worker.reasons for worker in list(self._workers.values()) if worker.serves and worker.reasons is not None]
        return tuple(sorted({reason for reasons in told for reason in reasons})) if told else ("not asked yet",)

    async def start(self) -> None:
        """Start all workers; ConfigError with the first complaint when one of them cannot serve."""
        for index in range(self._count):
            await self._launch(index)
        workers = list(self._workers.values())
        self._keeping = [spawn(self._keep(index), f"worker {index}") for index in range(self._count)]
        failures = [text for worker in workers if (text := await worker.settled)]
        if failures:
            await self.stop()
            raise ConfigError(failures[0])
        self._judged.set()

    async def reload(self, configuration: Configuration) -> list[str]:
        """Have all workers go on with another configuration, or none of them; returns the complaints."""
        async with self._reloading:
            workers = [worker for worker in self._workers.values() if worker.serves]
            complaints = await asyncio.gather(*(worker.ask(Prepare(configuration)) for worker in workers))
            if not any(complaints):
                self.configuration = configuration
                for worker in workers:
                    worker.configuration = configuration
                self._replace_outdated()
                await asyncio.gather(*(worker.ask(Take()) for worker in workers))
            return sorted({complaint for complaint in complaints if complaint})

    async def drain(self, seconds: float) -> None:
        """Let all workers end when their sessions have ended, or the time is over."""
        self._tell_all(Drain(seconds))
        await self._all_ended(seconds + GRACE)

    async def stop(self) -> None:
        """End all workers now."""
        self._tell_all(Stop())
        await self._all_ended(GRACE)

    def _told_head(self, head: dict[str, Any]) -> None:
        self.told_head(head)

    def _tell_all(self, order: Order) -> None:
        self._ending = True
        self._judged.set()
        for worker in self._workers.values():
            worker.channel.order(order)

    async def _all_ended(self, within: float) -> None:
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=within)
        for worker in self._workers.values():
            if worker.process.poll() is None:
                worker.process.kill()
        if self._keeping:
            await asyncio.wait(self._keeping)

    async def _launch(self, index: int) -> _Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220 - it returns when the program is loaded, and there is nothing else to do
                [sys.executable, "-m", "phiproxy.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self._sockets, self._slots),
                env={**os.environ, **self._environment},
            )
        channel = await Channel.over(ours)
        configuration = self.configuration
        channel.order(Start(configuration, self._sockets, self._slots, self._count, index, self._group, self._engine))
        settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        worker = _Worker(process, channel, configuration, settled, self._told_head)
        self._workers[index] = worker
        return worker

    async def _keep(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        wait = 0.0
        while True:
            worker, begun = self._workers[index], loop.time()
            worker.settled.add_done_callback(lambda _: self._replace_outdated())
            status = await worker.reaped()
            self._gone(index, worker.process.pid)
            await self._judged.wait()  # whether the first of them serve: none is replaced before
            if self._ending:
                return
            settled = not worker.settled.result() and loop.time() - begun > SETTLED
            wait = FIRST_WAIT if settled else min(max(2 * wait, FIRST_WAIT), LONGEST_WAIT)
            log.error("a worker ended and is replaced", worker=index, status=status, why=worker.settled.result(), seconds=wait)
            await asyncio.sleep(wait)
            if self._ending:
                return
            await self._launch(index)

    def _replace_outdated(self) -> None:
        """End a worker that was started with what is no longer the configuration; its place is then taken by another."""
        for worker in self._workers.values():
            if worker.serves and worker.configuration is not self.configuration:
                worker.channel.order(Stop())
