"""One client's conversation, sans-I/O: bytes in from both sides, bytes out to both sides, and rarely an Action.

``from_client`` and ``from_server`` take what arrived and leave what is to be written in ``to_client`` and ``to_server``. They
return None, or a Need: the frame that needs it stays unconsumed and is taken again after ``resume``. No await, so order is kept by
construction. The time is passed in, as ``now``. Handlers of single messages are in ``client`` and ``server``.
"""

from __future__ import annotations

from typing import NamedTuple

from phiproxy.errors import (
    AnnouncementNeeded,
    CatalogNeeded,
    KeyNeeded,
    KeyWant,
    MalformedMessage,
    PathNeeded,
    PhiproxyError,
    StatementRefused,
    WireError,
)
from phiproxy.plan.names import KnownNames
from phiproxy.session import alone, client, copying, overlay, server
from phiproxy.session.fence import NAMES
from phiproxy.session.known import Known
from phiproxy.session.passing import pass_messages, pass_replies
from phiproxy.session.phases import (
    AUTHENTICATING,
    CLIENT_MAY_SAY,
    CLOSED,
    ENDS_GROUP,
    OPENS_GROUP,
    READY,
    TERMINATED,
    TRANSPARENT,
)
from phiproxy.session.pipeline import Later, Whole
from phiproxy.session.results import result_error
from phiproxy.session.state import State
from phiproxy.session.streams import BEGINNINGS, goes_on
from phiproxy.session.substitutes import ask_path, refuse, waits_in_group
from phiproxy.session.work import Work, WorkNeeded
from phiproxy.wire.framing import FrameBuffer


class NeedKeys(NamedTuple):
    """Fetch these, then ``resume``."""

    wants: frozenset[KeyWant]


class NeedCatalog(NamedTuple):
    """Read the catalogue afresh, then ``resume``; ``changed``: only where it is another than was read last.

    ``names``: with the relations and indexes of these names.
    """

    changed: bool = False
    names: frozenset[str] = frozenset()


class NeedAnnouncement(NamedTuple):
    """Let all live proxies hear of these names, then ``resume``."""

    names: frozenset[str]


class NeedWork(NamedTuple):
    """Do this, and then ``resume``."""

    work: Work


Need = NeedKeys | NeedCatalog | NeedAnnouncement | NeedWork


class Session(State):
    """One conversation at work: the loop that takes frames and hands them to the handlers."""

    __slots__ = ()

    @property
    def known(self) -> KnownNames:
        """The session's names as the planner asks for them."""
        return Known(self)

    # -- what the shell calls ----------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> Need | None:
        """Take bytes from the client. Without a policy nobody here looks at them, before the login either."""
        if self.phase is TRANSPARENT or (self.database is None and self.phase is AUTHENTICATING):
            self._pass_gate(data)
            return None
        if self.quiet and (sent := alone.group(self, data)):
            self.to_server.append(sent)
            return None
        frames = self.client_frames
        if frames.holds_nothing and self.phase is READY and self.waiting is None and not self.blocked and not self._fenced:
            self.later = False
            frames.data, frames.pos = data, 0
            return None if pass_messages(self) else self._drain("client")
        self.quiet = False
        if frames.passing:
            data = self._pass_on(frames, data, self.to_server)
        frames.feed(data)
        return None if self.waiting is not None else self._drain("client")

    def from_server(self, data: bytes) -> Need | None:
        """Take bytes from the server."""
        if self.phase is TRANSPARENT:
            self.to_client.append(data)
            return None
        if self.quiet and alone.replies(self, data):
            return None
        frames = self.server_frames
        if frames.holds_nothing and self.phase is READY and self.waiting is None and not self.client_frames.pending:
            frames.data, frames.pos = data, 0
            pass_replies(self)
            return None if frames.pos == len(data) else self._drain("server")
        self.quiet = False
        if frames.passing:
            data = self._pass_on(frames, data, self.to_client)
        frames.feed(data)
        return None if self.waiting is not None else self._drain("server")

    def resume(self, error: PhiproxyError | None = None, *, worked: bool = False) -> Need | None:
        """Go on after a Need was met, or could not be: then the frame that needed it is answered with ``error``.

        ``worked``: it was work, which says nothing new of the catalogue.
        """
        side, self.waiting = self.waiting, None
        assert side is not None
        frames = self.client_frames if side == "client" else self.server_frames
        if frames.is_joining:
            joined = self.worked.pop().outcome()
            assert isinstance(joined, bytes)
            frames.joined(joined)
        if side == "client":
            self.catalog_fresh = self.catalog_fresh if worked else error is None
            if error is not None:
                self._refuse_next(error)
        elif error is not None:
            result_error(self, error)
        need = self._drain(side)
        return need if need is not None else self._drain("server" if side == "client" else "client")

    def _put_together(self, side: str, frames: FrameBuffer) -> Need:
        """Let another thread put a long message together before it is looked at."""
        self.waiting = side
        return NeedWork(Work(("message",), apart=frames.joining(), refusable=False))

    def _pass_gate(self, data: bytes) -> None:
        """Pass what a client says to a database without a policy."""
        try:
            data = self.gate.passed(data) if self.gate is not None else data
        except WireError as error:
            self.fatal(error)
            return
        if data:
            self.to_server.append(data)

    # -- the loop ----------------------------------------------------------------------------------------------------------

    def _drain(self, side: str) -> Need | None:
        """Handle every complete frame of one side, and what handling it unblocks on the other."""
        self.quiet = False
        frames = self.client_frames if side == "client" else self.server_frames
        if frames.complete:
            return self._put_together(side, frames)
        try:
            need = self._client_loop() if side == "client" else self._server_loop()
        except WireError as error:
            self.fatal(error)
            return None
        self.quiet = alone.is_quiet(self)
        return need

    def _client_loop(self) -> Need | None:
        frames = self.client_frames
        self.later = False
        fenced = self._fenced
        while not self.blocked and self.phase not in (TERMINATED, CLOSED):
            if (self.phase is AUTHENTICATING and self._speaks_early()) or (
                not fenced and pass_messages(self) and not frames.pull()
            ):
                break
            frame, begins = frames.next(), False
            if frame is None:
                frame, begins = frames.begun(), True
                if frame is None:
                    break
            tag, start, end = frame
            if fenced and tag in NAMES and not self.pipeline.skipping:
                self.waiting = "client"
                return NeedCatalog(changed=True)
            sent = len(self.to_server)
            try:
                accepted = self._client_frame(tag, start, end, BEGINNINGS if begins else client.HANDLERS)
            except (KeyNeeded, CatalogNeeded, AnnouncementNeeded, WorkNeeded) as need:
                self.waiting = "client"
                return _need(need)
            except Later:
                self.later = True
                self.worked.clear()  # when it is taken again its names may mean something else
                break
            except Whole:
                frames.gather()
                break
            if begins:
                frames.stream(kept=accepted and len(self.to_server) > sent)
            else:
                frames.advance(end)
            self._taken()
        return None

    def _taken(self) -> None:
        """Forget what was found out for the message that has just been consumed."""
        self.catalog_fresh = False
        if self.worked:
            self.worked = []

    @property
    def _fenced(self) -> bool:
        """Tell whether what is known of the database's names may not be relied on any longer."""
        return self.now > self.fence.until

    def _speaks_early(self) -> bool:
        """Tell whether the client's next message is not about its login: it waits for that, as it would in the server's socket."""
        frames = self.client_frames
        if not frames.pending or frames.data[frames.pos] in CLIENT_MAY_SAY[self.phase]:
            return False
        if self.asked:
            raise WireError(f"expected {self.asked} response, got message type {frames.data[frames.pos]}")
        self.later = True
        return True

    def _client_frame(self, tag: int, start: int, end: int, handlers: dict[int, client.Handler]) -> bool:
        """Handle one message, or put its refusal into its place (False); Later when the search path must be read first."""
        if tag not in CLIENT_MAY_SAY[self.phase]:
            raise WireError("the client sent a message that is not allowed here")
        copying.check_allowed(self, tag)
        data = self.client_frames.data
        try:
            overlay.known_there(self, handlers[tag], data, start, end)
            self.group_open = tag in OPENS_GROUP or (self.group_open and tag not in ENDS_GROUP)
        except overlay.OverlayNeeded as needed:
            if overlay.ask_when_idle(self):
                raise Later from None
            refuse(self, tag, data, start, end, _catalog_unknown(needed.position))
        except PathNeeded as needed_path:
            if self.ask_path_when_idle(of_styles=needed_path.of_styles):
                raise Later from None
            unknown = _styles_unknown() if needed_path.of_styles else _path_unknown(needed_path.position)
            refuse(self, tag, data, start, end, unknown)
        except MalformedMessage as error:
            refuse(self, tag, data, start, end, error)
        except WireError:
            raise
        except PhiproxyError as error:
            refuse(self, tag, data, start, end, error)
        else:
            return True
        return False

    def _server_loop(self) -> Need | None:
        frames = self.server_frames
        while self.phase is not CLOSED:
            if self.phase is TRANSPARENT:
                self._pass_rest(frames, self.to_client)
                break
            if self.phase is not AUTHENTICATING:
                pass_replies(self)
                if frames.pos == len(frames.data) and not frames.pull():
                    break
            frame = frames.next()
            if frame is None:
                self._server_begun()
                break
            tag, start, end = frame
            handler = server.HANDLERS.get(tag)
            if handler is None:
                raise WireError("the server sent a message of an unknown type")
            try:
                end = handler(self, frames.data, start, end)
            except (KeyNeeded, WorkNeeded) as need:
                self.waiting = "server"
                return _need(need)
            frames.advance(end)
        return self._drain("client") if not self.blocked and self.client_frames.pending else None

    def _server_begun(self) -> None:
        """Let a long message of the server's pass as it comes, where nothing in it is protected."""
        frames = self.server_frames
        begun = frames.begun()
        if begun is None:
            return
        tag, start, end = begun
        kept = goes_on(self, tag)
        if kept is None:
            frames.gather()
            return
        if kept:
            self.to_client.append(frames.data[start:end])
        frames.stream(kept=kept)

    def _pass_on(self, frames: FrameBuffer, data: bytes, out: list[bytes]) -> bytes:
        """Pass what belongs to a long message that has begun, and return what comes behind it."""
        inside, behind = frames.passed(data)
        if inside and self.phase is not CLOSED:
            out.append(inside)
        return behind

    def _pass_rest(self, frames: FrameBuffer, out: list[bytes]) -> None:
        frames.pull()
        if frames.pending:
            out.append(frames.data[frames.pos :])
            frames.advance(len(frames.data))

    def _refuse_next(self, error: PhiproxyError) -> None:
        frames = self.client_frames
        frame = frames.next()
        begun = frames.begun() if frame is None else None
        if frame is not None or begun is not None:
            tag, start, end = frame or begun or (0, 0, 0)
            if not copying.fail(self, tag, error):
                refuse(self, tag, frames.data, start, end, error)
            if begun is not None:
                frames.stream(kept=False)
            else:
                frames.advance(end)
            self._taken()

    # -- the search path ---------------------------------------------------------------------------------------------------

    def ask_path_when_idle(self, *, of_styles: bool) -> bool:
        """Ask the server for this session's search path once nothing is in flight; False when that cannot be done.

        Replies to whole Sync groups come without the client's help and are waited for. Inside an open group the server does not
        tell of the settings by which values are spelled (``of_styles``).
        """
        idle = self.pipeline.front() is None
        if self.pipeline.skipping or (idle and self.status == b"E") or (of_styles and self.group_open):
            return False
        if not waits_in_group(self) and idle:
            ask_path(self, self._path_read)
        return True

    def _path_read(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        self.blocked = False
        self.path_is(ok, rows)
        if self.path is None and not self.pipeline.skipping:
            self._refuse_next(_path_unknown())


def _need(needed: KeyNeeded | CatalogNeeded | AnnouncementNeeded | WorkNeeded) -> Need:
    if isinstance(needed, KeyNeeded):
        return NeedKeys(needed.wants)
    if isinstance(needed, WorkNeeded):
        return NeedWork(needed.work)
    return NeedCatalog(needed.changed, needed.names) if isinstance(needed, CatalogNeeded) else NeedAnnouncement(needed.names)


def _catalog_unknown(position: int | None = None) -> StatementRefused:
    return StatementRefused(
        "tables were changed in this transaction, and what they are now cannot be read at this place",
        hint="Send this statement in a pipeline of its own.",
        position=position,
    )


def _styles_unknown() -> StatementRefused:
    return StatementRefused(
        "how values are spelled is not known at this place, since a statement before it may have changed that",
        hint="Send this statement after the reply to the one before.",
    )


def _path_unknown(position: int | None = None) -> StatementRefused:
    return StatementRefused(
        "the search path is not known at this place, so an unqualified name cannot be resolved",
        hint="Qualify the table with its schema, or send this statement after the reply to the one before.",
        position=position,
    )
