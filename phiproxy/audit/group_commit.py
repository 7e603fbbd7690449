"""The audit log as a process's event loop sees it: records are handed to the process that writes them, many at a time.

What the sessions have to record while the loop is busy goes there together, and what has come to it while it syncs shares the next
sync. Whoever submits a record gets a ticket, and can wait until that is durable. Where nothing takes records they wait with the
writer, and are written when something does again.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final, Literal, cast

import structlog

from phiproxy.audit.lease import Lease, LeasedFile
from phiproxy.audit.records import Kind, Line, line_of
from phiproxy.audit.writer import Frames, Start, framed

log = structlog.get_logger("phiproxy.audit")

# How often it is tried again to write, where nothing takes records, or to start a writer anew.
RETRY: Final = 1.0
# What it takes to have records written is the same for one and for many. So they wait while the loop has other work, for at most so
# many seconds, and while each turn of it brings more, for so many turns. A turn in which it has none takes less than ``IDLE``.
LONGEST_WAIT: Final = 0.002
MOST_TURNS: Final = 4
IDLE: Final = 0.00001
# A lease is asked for where so many records have come since the last look; after one that was slow, only after some seconds, each
# time longer, up to so many.
BUSY: Final = 100
LONGEST_PAUSE: Final = 64.0
# How long a writer may take to write and sign what there is at the end.
GRACE: Final = 20.0

OnFailure = Literal["refuse", "continue"]
Told = Callable[[int, bool], None]
"""Told the ticket of a record that is durable (True), or that is not (False)."""
Head = dict[str, Any]


class AuditLog(asyncio.Protocol):
    """The log, and the process that writes it. ``open`` and ``close`` it on the loop whose sessions it is of."""

    def __init__(
        self, start: Start, *, on_failure: OnFailure, interval: float, facts: Mapping[str, Any] | None = None, most: int = 50_000
    ) -> None:
        self._start, self._on_failure, self._interval, self._most = start, on_failure, interval, most
        self._facts = dict(facts or {})
        self._loop: asyncio.AbstractEventLoop
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._pending: list[Line] = []
        self._sent: deque[list[Line]] = deque()
        self._waiting: deque[tuple[int, Told]] = deque()
        self._submitted = self._settled = 0
        self._scheduled = self._broken = self._closing = False
        self._begun: asyncio.Future[dict[str, int]] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._launching: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self.told_head: Callable[[Head], None] = lambda _: None
        """Told of the head of the open file after each checkpoint."""
        self.recorded = self.failures = self.executions = 0
        # Since when, by the loop's clock, some record waits that is not durable; None: there is none.
        self._waiting_since: float | None = None
        # The file that this process writes itself; what the writer was asked for it, and has not answered.
        self._leased: LeasedFile | None = None
        self._asked: Literal["", "first", "more"] = ""
        # How many seconds are to pass, and how many records to come, before it is asked for a lease.
        self._pause, self._ask_at, self._seen = RETRY, 0.0, 0
        self.undelivered: dict[str, int] = {}
        """How many records a destination beside the files has not got, or checkpoints who anchors them, by its name."""
        self._troubles: dict[str, str] = {}

    # -- its life ----------------------------------------------------------------------------------------------------------

    async def open(self, facts: Mapping[str, Any]) -> dict[str, int]:
        """Begin: a record of the start, with ``facts``, is durable and signed when this returns; OSError when that cannot be.

        Returns the numbers of the registry's events, by database, that the log has already.
        """
        self._loop = asyncio.get_running_loop()
        events = await self._launch()
        opened: asyncio.Future[None] = self._loop.create_future()

        def told(_: int, durable: bool) -> None:  # noqa: FBT001 - the shape of a callback
            if durable:
                opened.set_result(None)
            else:
                opened.set_exception(OSError("the audit log cannot be written"))

        self.when_durable(self.event("proxy.started", facts), told)
        await opened
        self._timers = [self._loop.call_later(self._interval, self._checkpoint), self._loop.call_later(RETRY, self._retry)]
        return events

    async def _launch(self) -> dict[str, int]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = process = subprocess.Popen(  # noqa: ASYNC220 - it returns when the program is loaded
                [sys.executable, "-m", "phiproxy.audit.writer", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._frames, self._begun = Frames(), self._loop.create_future()
        ours.setblocking(False)  # noqa: FBT003
        transport, _ = await self._loop.create_connection(lambda: self, sock=ours)
        transport.write(framed(b"S", self._start.encoded()))
        try:
            events = await self._begun
        except OSError:
            transport.close()
            await asyncio.to_thread(process.wait, GRACE)
            raise
        self._transport = transport
        return events

    async def close(self) -> None:
        """Write and sign what there is, and end."""
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        transport, process = self._transport, self._process
        if transport is None or process is None:
            return
        self.event("proxy.stopped", {})
        self._give_back(b"-")
        self._asked = ""
        self._flush()
        self._ended = self._loop.create_future()
        transport.write(framed(b"X", b""))
        with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
            async with asyncio.timeout(GRACE):
                await self._ended
            await asyncio.to_thread(process.wait, GRACE)
        transport.close()

    @property
    def failing(self) -> bool:
        """Tell whether what is protected is to be refused, since nothing takes records."""
        return self._broken and self._on_failure == "refuse"

    @property
    def broken(self) -> bool:
        """Tell whether nothing takes records now."""
        return self._broken

    @property
    def lag(self) -> float:
        """How many seconds some record has been waiting to be durable; 0 where none waits."""
        return self._loop.time() - self._waiting_since if self._waiting_since is not None else 0.0

    # -- records -----------------------------------------------------------------------------------------------------------

    def event(self, kind: Kind, fields: Mapping[str, Any]) -> int:
        """Record something that is no execution; returns its ticket, as ``submit`` does."""
        return self.submit(line_of(kind, {**self._facts, **fields}))

    def submit(self, line: Line) -> int:
        """Record a line; returns its ticket, or 0 where it is durable now, with all before it."""
        leased = self._leased
        if leased is not None and leased.at_once and self._settled == self._submitted:  # nothing else waits
            try:
                if leased.write_at_once(line):
                    self._submitted = self._settled = self._settled + 1
                    self.recorded += 1
                    return 0
            except OSError:
                self._give_back(b"!")
        self._pending.append(line)
        self._submitted += 1
        if self._waiting_since is None:
            self._waiting_since = self._loop.time()
        if not self._scheduled:
            # Behind what the loop has to do in this turn, which may submit more.
            self._scheduled, now = True, perf_counter()
            self._loop.call_soon(self._gather, 1, MOST_TURNS, now, now + LONGEST_WAIT)
        return self._submitted

    def _gather(self, count: int, turns: int, turned: float, latest: float) -> None:
        """Have written what waits once a turn of the loop was idle, or at the latest moment.

        Of the turn before are ``count``, how many records there were, and ``turned``, when it was over.
        """
        now, pending = perf_counter(), len(self._pending)
        if now < latest and (now - turned > IDLE or (pending > count and turns)):
            self._loop.call_soon(self._gather, pending, turns - 1 if turns else 0, now, latest)
        else:
            self._flush()

    def when_durable(self, ticket: int, told: Told) -> None:
        """Have it told when a ticket is durable: now where it is. Tickets are waited for in their order."""
        if ticket <= self._settled:
            told(ticket, not self.failing)
        else:
            self._waiting.append((ticket, told))

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Have the first record of each further file say this."""
        if self._transport is not None:
            self._transport.write(framed(b"F", json.dumps(facts).encode()))

    def _flush(self) -> None:
        self._scheduled = False
        if not self._pending or self._transport is None:
            return
        if self._asked == "first" or (self._leased is not None and self._write_leased(self._leased)):
            return
        lines, self._pending = self._pending, []
        self._sent.append(lines)
        parts: list[bytes] = []
        for before, *behind in lines:
            parts += before, b"\0", *behind, b"\n"
        del parts[-1]
        self._transport.write(framed(b"R", b"".join(parts)))

    # -- what this process writes itself -----------------------------------------------------------------------------------

    def _write_leased(self, leased: LeasedFile) -> bool:
        """Write what waits into the file that is leased, or let it wait for room; False where the file is given back first."""
        lines = self._pending
        try:
            written = leased.write(lines)
        except OSError:
            self._give_back(b"!")
            return False
        if not written:
            if self._asked:
                return True  # there soon is more room, or none
            self._give_back(b"-")
            return False
        self._pending, self._waiting_since = [], None
        self.recorded += len(lines)
        if leased.is_slow:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._ask_at = self._loop.time() + self._pause
            self._give_back(b"~")
        elif leased.at > leased.half:
            self._ask()
        self._settle(len(lines), durable=True)
        return True

    def _ask(self) -> None:
        """Ask for a lease, or for more of it. Until a first one is there, or refused, records wait."""
        if self._transport is not None and not self._asked:
            self._asked = "more" if self._leased is not None else "first"
            self._transport.write(framed(b"L", b"+" + (self._leased.at if self._leased is not None else 0).to_bytes(8, "big")))

    def _give_back(self, sign: bytes) -> None:
        leased, self._leased = self._leased, None
        if leased is not None:
            leased.close()
            if self._transport is not None:
                self._transport.write(framed(b"L", sign + leased.at.to_bytes(8, "big")))

    def _lent(self, message: bytes) -> None:
        """Take a lease, or more of it, or give back what there is."""
        asked, self._asked = self._asked, ""
        if not message:
            self._give_back(b"-")
        elif self._leased is not None:
            self._leased.extend(Lease.read(message).end)
        elif asked == "first":  # else it was given back meanwhile
            lease = Lease.read(message)
            try:
                self._leased = LeasedFile(lease)
            except OSError:
                assert self._transport is not None
                self._transport.write(framed(b"L", b"~" + lease.at.to_bytes(8, "big")))
        self._flush()

    def _ask_if_busy(self) -> None:
        """Ask for a first lease where many records have come lately, and no other destination gets them."""
        to = self._start
        alone = to.directory is not None and not (to.stdout or to.syslog or to.otlp)
        busy, self._seen = self._submitted - self._seen >= BUSY, self._submitted
        if alone and busy and self._leased is None and not self._broken and self._loop.time() >= self._ask_at:
            self._ask()

    def _checkpoint(self) -> None:
        if self._leased is not None:
            self._pause = RETRY
            self._ask()
        if self._transport is not None:
            self._transport.write(framed(b"C", b""))
        self._timers[0] = self._loop.call_later(self._interval, self._checkpoint)

    def _retry(self) -> None:
        if self._broken and self._transport is not None and not self._sent:
            self._sent.append([])
            self._transport.write(framed(b"R", b""))
        self._ask_if_busy()
        self._timers[1] = self._loop.call_later(RETRY, self._retry)

    # -- what the writer says ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what the writer says."""
        for kind, content in self._frames.feed(data):
            self._heard(kind, content)

    def _heard(self, kind: bytes, content: bytes) -> None:
        begun = self._begun if self._begun is not None and not self._begun.done() else None
        if kind == b"r":
            self._committed(int.from_bytes(content[:4], "big"), content[4:].decode())
        elif kind == b"l":
            self._lent(content)
        elif kind == b"s" and begun is not None:
            begun.set_result(cast("dict[str, int]", json.loads(content)))
        elif kind == b"c":
            head = json.loads(content)
            if head is not None:
                self.told_head(head)
        elif kind == b"e" and begun is not None:
            begun.set_exception(OSError(content.decode()))
        elif kind == b"e":
            self._give_back(b"!")
            self._judge(content.decode())
        elif kind == b"t":
            self._heard_of(*json.loads(content))
        elif kind == b"x" and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _committed(self, count: int, why: str) -> None:
        """Note that the oldest frames, of so many records, are durable, or why they are not."""
        settled = 0
        while self._sent and (settled < count or not self._sent[0]):
            settled += len(self._sent.popleft())
        self._judge(why)
        if not why:
            self.recorded += settled
            # What is pending has come since the last was sent.
            self._waiting_since = self._loop.time() if self._pending else None
        self._settle(settled, durable=not why)

    def _settle(self, count: int, *, durable: bool) -> None:
        """Tell who waits that so many more of the oldest records are durable, or are not."""
        self._settled += count
        shown = durable or self._on_failure == "continue"
        while self._waiting and self._waiting[0][0] <= self._settled:
            ticket, told = self._waiting.popleft()
            told(ticket, shown)

    def _heard_of(self, name: str, why: str, lost: int) -> None:
        """Count what a destination has not got, and say so when that begins, is for another reason, or is over."""
        self.undelivered[name] = self.undelivered.get(name, 0) + lost
        if not why:
            log.warning("audit records arrive again", destination=name)
        elif self._troubles.get(name) != why:
            log.error("audit records do not arrive", destination=name, why=why)
        self._troubles[name] = why

    def _judge(self, why: str) -> None:
        if why:
            self.failures += 1
            if not self._broken:
                log.error("the audit log cannot be written", why=why, then=self._on_failure)
        elif self._broken:
            log.warning("the audit log is written again")
        self._broken = bool(why)

    def connection_lost(self, exc: Exception | None) -> None:
        """The writer is gone: what it has not confirmed is written by another, once more where it was."""
        self._transport, self._asked = None, ""
        self._give_back(b"-")
        if self._begun is not None and not self._begun.done():
            self._begun.set_exception(OSError("the process that writes the audit log has ended"))
        if self._begun is None or self._begun.exception() is not None:
            return  # it has not begun: whoever has started it knows
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if self._closing:
            return
        again = [line for lines in self._sent for line in lines]
        self._sent.clear()
        self._judge("the process that writes the audit log has ended")
        self._settle(len(again), durable=False)
        kept = [*again, *self._pending]
        # Of these nobody waits any longer, and they are counted again when they are sent.
        self._settled += max(0, len(kept) - self._most) - len(again)
        self._pending = kept[: self._most]
        self._loop.call_later(RETRY, self._relaunch)

    def _relaunch(self) -> None:
        if not self._closing:
            self._launching = self._loop.create_task(self._launch_again())

    async def _launch_again(self) -> None:
        assert self._process is not None
        try:
            await asyncio.to_thread(self._process.wait, GRACE)
            await self._launch()
        except (OSError, subprocess.TimeoutExpired) as error:
            self._judge(str(error))
            self._loop.call_later(RETRY, self._relaunch)
        else:
            self._flush()
