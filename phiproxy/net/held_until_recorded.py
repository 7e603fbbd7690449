"""What a session has for its client, until the record of it is durable: a statement is in the log before its rows are shown.

The session itself goes on, and the order stays: what comes behind something that waits, waits too. Whatever protects nothing, while
nothing waits, is written as ever.
"""

from collections import deque
from collections.abc import Callable

from phiproxy.net.leg import BUFFER, Leg
from phiproxy.session import audited_executions
from phiproxy.session.core import Session


class Unrecorded:
    """Of one relay. ``write`` takes what may be shown; ``failed`` is told when it may not, and then it is gone."""

    def __init__(self, session: Session, server: Leg, write: Callable[[list[bytes]], None], failed: Callable[[], None]) -> None:
        self._session, self._server, self._write, self._failed = session, server, write, failed
        self._kept: deque[tuple[int, list[bytes]]] = deque()
        # The last ticket, and how many are not durable yet.
        self._last = self._awaited = 0
        self._holding = self._dropped = False

    @property
    def waits(self) -> bool:
        """Tell whether something waits."""
        return bool(self._kept)

    def keep(self) -> None:
        """Keep what the session has left for the client, where the record of it, or of what is before it, is not durable yet."""
        session, kept = self._session, self._kept
        if self._dropped:
            return  # only why is still said, and nobody lets go of that again
        if session.pipeline.queue and session.to_client:
            audited_executions.begins(session)
        ticket = session.unrecorded
        if not (ticket or kept or self._awaited):
            return
        out = session.to_client
        if out:
            session.to_client = []
            self._last = ticket or self._last
            kept.append((self._last, out))
            if self._session.pipeline.queue or len(kept) > 1:
                self._see_size()
        if ticket:
            session.unrecorded = 0
            self._awaited += 1
            assert session.trail is not None
            session.trail.when_durable(ticket, self._told)

    def _see_size(self) -> None:
        """Read no more of the server where too much waits."""
        if not self._holding and sum(len(part) for _, parts in self._kept for part in parts) > BUFFER:
            self._holding = True
            self._server.hold()

    def drop(self) -> None:
        """Let go of what waits: nobody is there to see it."""
        self._dropped = True
        self._kept.clear()
        self._release()

    def _told(self, ticket: int, durable: bool) -> None:  # noqa: FBT001 - the shape of a callback
        kept = self._kept
        self._awaited -= 1
        if not durable:
            if not self._dropped:
                self.drop()
                self._failed()
            return
        while kept and kept[0][0] <= ticket:
            self._write(kept.popleft()[1])
        if not kept:
            self._release()

    def _release(self) -> None:
        if self._holding:
            self._holding = False
            self._server.release()
