"""How long statements take, and where: measured of some statements, or of all where slow ones are logged, or traces are taken.

A statement lasts from the client's bytes to the ReadyForQuery that answers them. Its phases: ``plan`` (the proxy understands it and
seals its values), ``keys`` (it waits for keys, the catalogue or long work), ``server``, ``engine`` (a part is computed beside the
proxy), ``open`` (its results are opened).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from phiproxy.errors import MalformedMessage
from phiproxy.net.session_log import shape_digest
from phiproxy.session.core import Session
from phiproxy.session.state import Counters
from phiproxy.sql.text.log_text import without_values
from phiproxy.wire.messages import cstring

log = structlog.get_logger("phiproxy.slow")

PHASES: Final = ("plan", "keys", "server", "engine", "open")
# So many a second are measured where no slow ones are logged: each costs some 10 µs.
WANTED = 50
_NONE = 1 << 62
_HEADER = 5
# What is kept of a statement until it is known whether it was slow.
_KEPT = 16 * 1024


@dataclass(slots=True)
class Trace:
    """The caller's span of one session's transaction, as the last ``SET LOCAL …traceparent`` said; empty: none."""

    parent: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A statement that is answered: ``phases`` in seconds, ``total`` of them and of what is in none."""

    session: Session
    about: Mapping[str, str]
    verdict: str
    phases: Mapping[str, float]
    total: float
    chunk: bytes
    """What the client sent, where that is kept; else empty."""
    trace: Trace

    def shape(self) -> str | None:
        """Return its text without values; None where that is not known."""
        text = statement_in(self.session, self.chunk)
        return without_values(text) if text is not None else None


Observe = Callable[[Finished], None]


class StatementTimes:
    """Of one listener. ``stride``: one of so many statements of a session is measured; none is while nobody asks for it."""

    def __init__(self, slow: float | None = None) -> None:
        self.slow = slow
        self.all = slow is not None
        """Each statement is measured, and what the client has sent of it is kept until it is answered."""
        self.stride = 1 if self.all else _NONE
        self.measured = 0
        self._observers: list[Observe] = []

    def told_to(self, observe: Observe, *, every: bool = False) -> None:
        """Have those that are measured told; ``every``: that is each of them."""
        self._observers.append(observe)
        self.all = self.all or every
        self.stride = 1

    def observe(self, finished: Finished) -> None:
        """Take one that was measured."""
        self.measured += 1
        for observe in self._observers:
            observe(finished)
        if self.slow is not None and finished.total >= self.slow:
            shape = finished.shape()
            phases = {phase: round(seconds, 6) for phase, seconds in finished.phases.items()}
            told = {**phases, "verdict": finished.verdict, "shape": shape, "digest": shape_digest(shape), **finished.about}
            log.warning("slow statement", seconds=round(finished.total, 6), **told)

    def adapt(self) -> None:
        """Measure about ``WANTED`` in a second like the one since this was called last."""
        if not self.all:
            self.stride = max(1, self.measured * self.stride // WANTED)
        self.measured = 0


class Measured:
    """One statement, or a few that came at once, from the client's bytes on. Seconds of the relay's clock."""

    __slots__ = ("_about", "_before", "_chunk", "_phases", "_sent", "_session", "_times", "_trace", "begin")

    def __init__(
        self, times: StatementTimes, session: Session, chunk: bytes, now: float, about: Mapping[str, str], trace: Trace
    ) -> None:
        self._times = times
        self._about = about
        self._trace = trace
        self._session = session
        self._chunk = chunk if times.all and len(chunk) <= _KEPT else b""
        c: Counters = session.counters
        self._before = c.rewritten, c.refused, c.splits
        self._phases = dict.fromkeys(PHASES, 0.0)
        self.begin = self._sent = now

    def planned(self, begin: float, now: float) -> None:
        """Take note that the proxy has looked at the client's bytes, from ``begin`` to now."""
        self._phases["plan"] += now - begin
        self._sent = now

    def waited(self, begin: float, now: float, *, engine: bool = False) -> None:
        """Take note that keys, the catalogue, work or the engine were waited for."""
        self._phases["engine" if engine else "keys"] += now - begin
        self._sent = now

    def opened(self, begin: float, now: float) -> None:
        """Take note that a piece of the server's replies, which came at ``begin``, was handled."""
        self._phases["server"] += max(0.0, begin - self._sent)
        self._phases["open"] += now - begin
        self._sent = now

    def done(self, now: float) -> None:
        """Tell of it: it is answered."""
        c, (rewritten, refused, splits) = self._session.counters, self._before
        if c.refused > refused:
            verdict = "refused"
        elif c.splits > splits:
            verdict = "split"
        else:
            verdict = "rewritten" if c.rewritten > rewritten else "forwarded"
        total = now - self.begin
        self._times.observe(Finished(self._session, self._about, verdict, self._phases, total, self._chunk, self._trace))


def statement_in(session: Session, chunk: bytes) -> bytes | None:
    """Return the text of the first statement in a chunk of the client's: of a Query, a Parse, or what a Bind binds."""
    try:
        return _first_text(session, chunk)
    except MalformedMessage:
        return None


def _first_text(session: Session, chunk: bytes) -> bytes | None:
    pos = 0
    while len(chunk) - pos > _HEADER:
        end = pos + 1 + int.from_bytes(chunk[pos + 1 : pos + _HEADER], "big")
        if end > len(chunk) or end <= pos + _HEADER:
            break
        tag, body = chunk[pos : pos + 1], chunk[pos + _HEADER : end]
        if tag == b"Q":
            return body.rstrip(b"\0")
        if tag in (b"P", b"B"):
            after = cstring(body, 0, len(body))[1]
            second = cstring(body, after, len(body))[0]
            if tag == b"P":
                return second
            prepared = session.names.statements.get(second)
            return prepared.plan.text if prepared is not None else None
        pos = end
    return None
