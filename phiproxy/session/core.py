"""One client's conversation, sans-I/O: bytes in from both sides, bytes out to both sides, and rarely an Action.

``from_client`` and ``from_server`` take what arrived and leave what is to be written in ``to_client`` and ``to_server``. They
return None, or a Need: the frame that needs it stays unconsumed and is taken again after ``resume``. No await, so order is kept by
construction. Handlers of single messages are in ``client`` and ``server``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from phiproxy.errors import CatalogNeeded, KeyNeeded, KeyWant, PathNeeded, PhiproxyError, StatementRefused, WireError
from phiproxy.plan.cache import Planner, View
from phiproxy.session import client, server
from phiproxy.session.phases import CLIENT_MAY_SAY, ENDS_GROUP, OPENS_GROUP, WHILE_COPYING_IN, Phase
from phiproxy.session.pipeline import Expected, Kind, Later, Pipeline
from phiproxy.session.prepared import Names
from phiproxy.wire.framing import FrameBuffer
from phiproxy.wire.messages import error_response


class Database(Protocol):
    """What a session is told of its database; the planner is replaced when policy, registry or catalogue change."""

    @property
    def planner(self) -> Planner:
        """The planner of now."""

    @property
    def generation(self) -> int:
        """A number that changes with the planner."""


class NeedKeys(NamedTuple):
    """Fetch these, then ``resume``."""

    wants: frozenset[KeyWant]


class NeedCatalog(NamedTuple):
    """Read the catalogue afresh, then ``resume``."""


Need = NeedKeys | NeedCatalog


@dataclass(slots=True)
class Counters:
    """What a session has done; read by metrics."""

    forwarded: int = 0
    rewritten: int = 0
    refused: int = 0
    open_failures: int = 0


class Session:
    """The state of one conversation. ``database`` is None where no policy names it: bytes then pass as they come."""

    def __init__(
        self, database: Database | None, name: str, *, max_message: int = 64 * 1024 * 1024, strip_plus: bool = False
    ) -> None:
        self.database = database
        self.database_name = name
        self.phase = Phase.AUTHENTICATING
        self.client_frames = FrameBuffer(max_message)
        self.server_frames = FrameBuffer(max_message)
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.pipeline = Pipeline()
        self.names = Names()
        self.counters = Counters()
        self.strip_plus = strip_plus
        self.negotiation: bytes | None = None
        self.status = b"I"
        self.group_executes = 0
        self.group_open = False
        self.path: tuple[str, ...] | None = None
        self.path_changed: int | None = None
        self.created: frozenset[str] = frozenset()
        self.utf8 = True
        self.blocked = False
        self.catalog_fresh = False
        self.swallowing = False
        self.server_said_fatal = False
        self.backend_key: bytes | None = None
        self._waiting: str | None = None

    # -- what the shell calls ----------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> Need | None:
        """Take bytes from the client."""
        if self.phase is Phase.TRANSPARENT:
            self.to_server.append(data)
            return None
        self.client_frames.feed(data)
        return self._drain("client") if self._waiting is None else None

    def from_server(self, data: bytes) -> Need | None:
        """Take bytes from the server."""
        if self.phase is Phase.TRANSPARENT:
            self.to_client.append(data)
            return None
        self.server_frames.feed(data)
        return self._drain("server") if self._waiting is None else None

    def resume(self, error: PhiproxyError | None = None) -> Need | None:
        """Go on after a Need was met, or could not be: then the frame that needed it is answered with ``error``."""
        side, self._waiting = self._waiting, None
        assert side is not None
        if side == "client":
            self.catalog_fresh = error is None
            if error is not None:
                self._refuse_next(error)
        elif error is not None:
            server.result_error(self, error)
        need = self._drain(side)
        return need if need is not None else self._drain("server" if side == "client" else "client")

    @property
    def closed(self) -> bool:
        """Tell whether both sockets must be closed once the output is written."""
        return self.phase is Phase.CLOSED

    @property
    def framed(self) -> bool:
        """Tell whether messages are told apart here, so that a last one can be put behind the server's."""
        return self.phase in (Phase.AUTHENTICATING, Phase.READY)

    @property
    def busy(self) -> bool:
        """Tell whether the server may be working on something (always, where bytes are not looked at)."""
        return self.phase is Phase.TRANSPARENT or bool(self.pipeline.queue)

    def fatal(self, error: PhiproxyError) -> None:
        """Say a last word to the client and close."""
        self.to_client.append(error_response(error.sqlstate, error.public_text, hint=error.hint, severity="FATAL"))
        self.phase = Phase.CLOSED

    # -- the loop ----------------------------------------------------------------------------------------------------------

    def _drain(self, side: str) -> Need | None:
        """Handle every complete frame of one side, and what handling it unblocks on the other."""
        try:
            return self._client_loop() if side == "client" else self._server_loop()
        except WireError as error:
            self.fatal(error)
            return None

    def _client_loop(self) -> Need | None:
        frames = self.client_frames
        while not self.blocked and self.phase not in (Phase.TERMINATED, Phase.CLOSED):
            if self.phase is Phase.TRANSPARENT:
                self._pass_rest(frames, self.to_server)
                break
            frame = frames.next()
            if frame is None:
                break
            tag, start, end = frame
            try:
                self._client_frame(tag, start, end)
            except KeyNeeded as need:
                self._waiting = "client"
                return NeedKeys(need.wants)
            except CatalogNeeded:
                self._waiting = "client"
                return NeedCatalog()
            except Later:
                break
            frames.advance(end)
            self.catalog_fresh = False
        return None

    def _client_frame(self, tag: int, start: int, end: int) -> None:
        """Handle one message, or put its refusal into its place; Later when the search path must be read first."""
        if tag not in (WHILE_COPYING_IN if self.pipeline.copy_in else CLIENT_MAY_SAY[self.phase]):
            raise WireError("the client sent a message that is not allowed here")
        data = self.client_frames.data
        try:
            client.HANDLERS[tag](self, data, start, end)
            self.group_open = tag in OPENS_GROUP or (self.group_open and tag not in ENDS_GROUP)
        except PathNeeded:
            if self.ask_path_when_idle():
                raise Later from None
            client.refuse(self, tag, data, start, end, _path_unknown())
        except WireError:
            raise
        except PhiproxyError as error:
            client.refuse(self, tag, data, start, end, error)

    def _server_loop(self) -> Need | None:
        frames = self.server_frames
        while self.phase is not Phase.CLOSED:
            if self.phase is Phase.TRANSPARENT:
                self._pass_rest(frames, self.to_client)
                break
            frame = frames.next()
            if frame is None:
                break
            tag, start, end = frame
            handler = server.HANDLERS.get(tag)
            if handler is None:
                raise WireError("the server sent a message of an unknown type")
            try:
                end = handler(self, frames.data, start, end)
            except KeyNeeded as need:
                self._waiting = "server"
                return NeedKeys(need.wants)
            frames.advance(end)
        return self._client_loop() if not self.blocked and self.client_frames.pending else None

    def _pass_rest(self, frames: FrameBuffer, out: list[bytes]) -> None:
        if frames.pending:
            out.append(frames.data[frames.pos :])
            frames.advance(len(frames.data))

    def _refuse_next(self, error: PhiproxyError) -> None:
        frame = self.client_frames.next()
        if frame is not None:
            tag, start, end = frame
            client.refuse(self, tag, self.client_frames.data, start, end, error)
            self.client_frames.advance(end)
            self.catalog_fresh = False

    # -- what handlers share -----------------------------------------------------------------------------------------------

    def view(self) -> View:
        """Return what the planner must know of this session."""
        return View(self.path, self.database_name, self.created, self.utf8, self.catalog_fresh)

    def ask_path_when_idle(self) -> bool:
        """Ask the server for this session's search path once nothing is in flight; False when that cannot be done.

        Replies to whole Sync groups come without the client's help and are waited for. Inside an open group, though, the Sync of
        the question would commit it.
        """
        idle = self.pipeline.front() is None
        if self.group_open or self.pipeline.skipping or (idle and self.status == b"E"):
            return False
        if idle:
            self.internal(client.PATH_QUERY, self._path_read)
        return True

    def internal(self, messages: bytes, done: Callable[[bool, list[bytes]], None]) -> None:
        """Send messages of the proxy's own, ending in Sync; the client's wait until ``done(ok, rows)`` has been called."""
        self.blocked = True
        self.to_server.append(messages)
        self.pipeline.push(Expected(Kind.INTERNAL, done=done))

    def _path_read(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        self.blocked = False
        self.path_is(ok, rows)
        if self.path is None:
            self._refuse_next(_path_unknown())

    def path_is(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        """Take the search path that the server answered; a schema whose name cannot be read leaves it unknown."""
        try:
            self.path = tuple(row.decode("utf-8" if self.utf8 else "ascii") for row in rows) if ok else None
        except UnicodeDecodeError:
            self.path = None


def _path_unknown() -> StatementRefused:
    return StatementRefused(
        "the search path is not known at this place, so an unqualified name cannot be resolved",
        hint="Qualify the table with its schema, or send this statement after the reply to the one before.",
    )
