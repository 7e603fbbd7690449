"""One client's conversation, sans-I/O: bytes in from both peers, bytes out to both, and now and then a Need.

``from_client`` and ``from_server`` take what arrived and leave what is to be written in ``to_client`` and ``to_server``. They
return None, or a Need: the message that needs it stays unconsumed and is taken again after ``resume``. Nothing here awaits, so the
order is that of the calls. The time is passed in, as ``now``.

What arrives takes one of two ways: the ``fast_path``, or the handlers of single messages in ``client_messages`` and
``server_messages``.
"""

import math

from phiproxy.errors import (
    AnnouncementNeeded,
    CatalogNeeded,
    KeyNeeded,
    MalformedMessage,
    PathNeeded,
    PhiproxyError,
    WireError,
)
from phiproxy.plan.named_statements import KnownNames
from phiproxy.session import (
    client_messages,
    copy_data,
    current_access_and_expiry,
    holding,
    server_messages,
    slow_work,
    split_replies,
    split_write_messages,
    transaction_catalog,
)
from phiproxy.session.fast_path import simple_queries, whole_groups
from phiproxy.session.fast_path.runs import pass_messages, pass_replies
from phiproxy.session.long_messages import BEGINNINGS, goes_on
from phiproxy.session.named_objects import KnownNamesOf, RenewalNeeded, must_not_change, renew_when_idle
from phiproxy.session.needs import Need, NeedCatalog, NeedRelease, NeedWork, Work, WorkNeeded, need_of
from phiproxy.session.phases import (
    AUTHENTICATING,
    CLIENT,
    CLIENT_MAY_SAY,
    CLOSED,
    ENDS_GROUP,
    LOGGED_IN,
    NAMES,
    OPENS_GROUP,
    SERVER,
    SKIPPED,
    TERMINATED,
    TRANSPARENT,
    Peer,
)
from phiproxy.session.pipeline import PARSE_PASSES, QUERY_PASSES, Later, Whole
from phiproxy.session.results import result_error
from phiproxy.session.slow_work import MUCH
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import (
    ask_path,
    catalog_unknown,
    path_unknown,
    refuse,
    styles_unknown,
    waits_in_group,
)
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.framing import HEADER, FrameBuffer

QUERY_TAG = ord("Q")


class Session(State):
    """One conversation at work: the loop that takes frames and hands them to the handlers."""

    __slots__ = ()

    @property
    def known_names(self) -> KnownNames:
        """The session's names as the planner asks for them."""
        return KnownNamesOf(self)

    def see(self) -> None:
        """See the database as who acts now does."""
        current_access_and_expiry.see(self)

    # -- what the shell calls ----------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> Need | None:
        """Take bytes from the client. Without a policy nobody here looks at them, before the login either."""
        sent: bytes | None = None
        if self.settled:
            if sent := whole_groups.sent_for(self, data):
                self.to_server.append(sent)
                return None
            sent = simple_queries.sent_for(self, data)
            if sent:
                self.to_server.append(sent)
                return None
        elif self.phase is TRANSPARENT or (self.database is None and self.phase is AUTHENTICATING):
            self._pass_gate(data)
            return None
        elif self.now >= self.acting_until:
            self.see()
        elif self._is_settled(but_ddl=True) and simple_queries.sent_behind_ddl(self, data):
            self.to_server.append(data)
            return None
        frames = self.client_frames
        if not self._fenced and (
            self.settled or (frames.holds_nothing and self.phase is LOGGED_IN and self.waiting is None and not self.blocked)
        ):
            self.later = False
            frames.data, frames.pos = data, 0
            # Of a chunk that is one Query the fast path has said that it does not go on by itself: nor does it in a run.
            return None if sent is None and pass_messages(self) else self._drain(CLIENT, tried=True)
        self.settled = False
        if frames.passing:
            data = self._pass_on(frames, data, self.to_server)
        frames.feed(data)
        return None if self.waiting is not None else self._drain(CLIENT)

    def from_server(self, data: bytes) -> Need | None:
        """Take bytes from the server."""
        pos, queue = 0, self.pipeline.queue
        if self.settled and queue:
            front = queue[0]
            if front.whole > 1:
                pos = whole_groups.show(self, data, 0)
            elif front.passes is PARSE_PASSES:
                pos = whole_groups.show_behind_parse(self, data)
            elif front.passes is QUERY_PASSES and simple_queries.pass_whole(self, data):
                return None
            if pos == len(data):
                return None
        elif self.phase is TRANSPARENT:
            self.to_client.append(data)
            return None
        elif queue and queue[0].passes is QUERY_PASSES and self._is_settled(but_ddl=True) and simple_queries.pass_whole(self, data):
            return None
        frames = self.server_frames
        if self.settled or (
            frames.holds_nothing and self.phase is LOGGED_IN and self.waiting is None and not self.client_frames.pending
        ):
            frames.data, frames.pos = data, pos
            pass_replies(self)
            return None if frames.pos == len(data) else self._drain(SERVER)
        if frames.passing:
            data = self._pass_on(frames, data, self.to_client)
        frames.feed(data)
        return None if self.waiting is not None else self._drain(SERVER)

    def resume(self, error: PhiproxyError | None = None, *, worked: bool = False) -> Need | None:
        """Go on after a Need was met, or could not be: then the frame that needed it is answered with ``error``.

        ``worked``: it was work, which says nothing new of the catalogue.
        """
        peer, self.waiting = self.waiting, None
        assert peer is not None
        frames = self._frames(peer)
        if self.computing is not None and peer is SERVER:
            split_replies.resumed(self, error)
            error = None
        if frames.is_joining:
            joined = self.worked.pop().outcome()
            assert isinstance(joined, bytes)
            frames.joined(joined)
        if peer is CLIENT:
            self.catalog.fresh = self.catalog.fresh if worked else error is None
            if error is not None:
                self._refuse_next(error)
        elif error is not None:
            result_error(self, error)
        # Data of a COPY may come for ever: that the server takes no more is seen before the next of it.
        first = SERVER if self.pipeline.copy_in and self.server_frames.pending else peer
        for each in (first, *(other for other in Peer if other is not first)):
            need = self._drain(each)
            if need is not None:
                return need
        return None

    def _frames(self, peer: Peer) -> FrameBuffer:
        return self.client_frames if peer is CLIENT else self.server_frames

    def _pass_gate(self, data: bytes) -> None:
        try:
            data = self.gate.passed(data) if self.gate is not None else data
        except WireError as error:
            self.fatal(error)
            return
        if data:
            self.to_server.append(data)

    # -- the loop ----------------------------------------------------------------------------------------------------------

    def _drain(self, peer: Peer, *, tried: bool = False) -> Need | None:
        """Handle every complete frame of one peer, and what handling it unblocks of another.

        ``tried``: the client's first message is none that the fast path takes.
        """
        self.settled = False
        frames = self._frames(peer)
        if frames.complete:
            # Another thread puts a long message together before it is looked at.
            self.waiting = peer
            return NeedWork(Work(("message",), apart=frames.joining(), refusable=False))
        try:
            need = self._client_loop(tried=tried) if peer is CLIENT else self._server_loop()
        except WireError as error:
            self.fatal(error)
            return None
        self.settled = self._is_settled()
        return need

    def _is_settled(self, *, but_ddl: bool = False) -> bool:
        """Tell whether both peers are between two messages and nothing is pending: then the fast path need not ask again.

        Only handlers change any of this, and what a session does when it goes on after a Need. ``but_ddl``: nothing but DDL of its
        own is pending, and the search path may not be known.
        """
        return (
            self.phase is LOGGED_IN
            and (self.pending.nothing_but_ddl if but_ddl else self.pending.nothing)
            and self.waiting is None
            and not (self.blocked or self.later)
            and self.database is not None
            and (self.search_path.schemas is not None or (but_ddl and self.asks_late))
            and self.acting_until == math.inf
            and self.text.encoding is UTF8
            and self.client_frames.holds_nothing
            and self.server_frames.holds_nothing
        )

    def _client_loop(self, *, tried: bool) -> Need | None:
        frames = self.client_frames
        self.later = False
        self._see_end()
        fenced = self._fenced
        while not self.blocked and self.phase not in (TERMINATED, CLOSED) and (tried or not self._passes_all(fenced=fenced)):
            tried = False
            frame, begins = frames.next(), False
            if frame is None:
                frame, begins = frames.begun(), True
                if frame is None:
                    break
            tag, start, end = frame
            sent = len(self.to_server)
            try:
                if fenced and (need := self._fenced_off(tag, start, end)) is not None:
                    self.waiting = CLIENT
                    return need
                if tag in NAMES and self._owes_path(tag, start, end, begins=begins):
                    ask_path(self, self._path_told)
                    break
                accepted = self._client_frame(tag, start, end, BEGINNINGS if begins else client_messages.HANDLERS)
            except (KeyNeeded, CatalogNeeded, AnnouncementNeeded, WorkNeeded) as needed:
                self.waiting = CLIENT
                return need_of(needed)
            except Later:
                self.later = True
                self.worked.clear()  # when it is taken again its names may be those of others
                break
            except Whole:
                frames.gather()
                break
            if begins:
                frames.stream(forwarded=accepted and len(self.to_server) > sent)
            else:
                frames.advance(end)
            self._taken()
        return None

    def _see_end(self) -> None:
        """See who acts where a reason's or a token's time is over: what was said before, and waited, is answered behind it."""
        if self.now >= self.acting_until:
            self.see()

    def _passes_all(self, *, fenced: bool) -> bool:
        """Let the client's messages go the fast path, as far as they do; True when no handler is to be asked about the rest now."""
        if self.phase is AUTHENTICATING:
            return self._speaks_early()
        return not fenced and pass_messages(self) and not self.client_frames.pull()

    def _taken(self) -> None:
        """Forget what was found out for the message that has just been consumed."""
        self.catalog.fresh = False
        if self.worked:
            slow_work.let_go(self)
        split_write_messages.taken(self)

    @property
    def _fenced(self) -> bool:
        """Tell whether what is known of the database's names may not be relied on, or tables are about to be switched."""
        return self.now > self.fence.until or self.fence.holding is not None

    def _fenced_off(self, tag: int, start: int, end: int) -> Need | None:
        """Return what a message waits for; Later where the server is asked something first."""
        if tag not in NAMES or self.pipeline.skipping:
            return None
        if self.now > self.fence.until:
            return NeedCatalog(changed=True) if self.fence.holding is None else NeedRelease()
        return NeedRelease() if holding.waits(self, tag, self.client_frames.data, start, end) else None

    def _speaks_early(self) -> bool:
        """Tell whether the client's next message is not about its login: it waits for that, as it would in the server's socket."""
        frames = self.client_frames
        if not frames.pending or frames.data[frames.pos] in CLIENT_MAY_SAY[self.phase]:
            return False
        if self.login.asked:
            raise WireError(f"expected {self.login.asked} response, got message type {frames.data[frames.pos]}")
        self.later = True
        return True

    def _client_frame(self, tag: int, start: int, end: int, handlers: dict[int, client_messages.Handler]) -> bool:
        """Handle one message, or put its refusal into its place (False); Later when the search path must be read first."""
        if tag not in CLIENT_MAY_SAY[self.phase]:
            raise WireError("the client sent a message that is not allowed here")
        copy_data.check_allowed(self, tag)
        data = self.client_frames.data
        try:
            if not (self.pipeline.skipping and tag in SKIPPED):
                transaction_catalog.known_there(self, handlers[tag], data, start, end)
            self.groups.is_open = tag in OPENS_GROUP or (self.groups.is_open and tag not in ENDS_GROUP)
        except transaction_catalog.OverlayNeeded as needed:
            if transaction_catalog.ask_when_idle(self):
                raise Later from None
            refuse(self, tag, data, start, end, catalog_unknown(needed.position))
        except (RenewalNeeded, PathNeeded, current_access_and_expiry.PortalNeeded) as needed:
            unmet = self._see_to(needed)
            if unmet is None:
                raise Later from None
            refuse(self, tag, data, start, end, unmet)
        except PhiproxyError as error:
            if isinstance(error, WireError) and not isinstance(error, MalformedMessage):
                raise
            refuse(self, tag, data, start, end, split_write_messages.placed(self, error))
        else:
            return True
        return False

    def _see_to(self, needed: RenewalNeeded | PathNeeded | current_access_and_expiry.PortalNeeded) -> PhiproxyError | None:
        """Ask the server for what a message needs, which is taken again then; returns what is said where that cannot be done."""
        if isinstance(needed, current_access_and_expiry.PortalNeeded):
            asked = current_access_and_expiry.ask_portal_when_idle(self, needed)
            return None if asked else current_access_and_expiry.OtherRole()
        if isinstance(needed, RenewalNeeded):
            return None if renew_when_idle(self, needed) else must_not_change()
        if self.ask_path_when_idle(of_styles=needed.of_styles):
            return None
        return styles_unknown() if needed.of_styles else path_unknown(needed.position)

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
            handler = server_messages.HANDLERS.get(tag)
            if handler is None:
                raise WireError("the server sent a message of an unknown type")
            try:
                end = handler(self, frames.data, start, end)
            except (KeyNeeded, WorkNeeded) as need:
                self.waiting = SERVER
                return need_of(need)
            frames.advance(end)
        if self.computing is not None:
            of_engine = split_replies.need(self)
            if of_engine is not None:
                self.waiting = SERVER
                return of_engine
        return self._drain(CLIENT) if not self.blocked and self.client_frames.pending else None

    def entered(self, computation: object) -> None:
        """Take what stands for a session of the engine."""
        split_replies.entered(self, computation)

    def computed(self, piece: bytes) -> None:
        """Take what the engine says of the rest that is computed."""
        split_replies.computed(self, piece)

    def _server_begun(self) -> None:
        """Let a long message of the server's pass as it comes, where nothing in it is protected."""
        frames = self.server_frames
        begun = frames.begun()
        if begun is None:
            return
        tag, start, end = begun
        forwarded = goes_on(self, tag)
        if forwarded is None:
            frames.gather()
            return
        if forwarded:
            self.to_client.append(frames.data[start:end])
        frames.stream(forwarded=forwarded)

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
            if not copy_data.fail(self, tag, error):
                refuse(self, tag, frames.data, start, end, error)
            if begun is not None:
                frames.stream(forwarded=False)
            else:
                frames.advance(end)
            self._taken()

    # -- the search path ---------------------------------------------------------------------------------------------------

    def _owes_path(self, tag: int, start: int, end: int, *, begins: bool) -> bool:
        """Tell whether the path is to be asked for before a message, which may begin a transaction or a group.

        There the question would take the snapshot. What surely does neither goes on, and the path is asked for where it is needed.
        """
        path = self.search_path
        self.follow_schemas()
        if path.schemas is not None or self.status != b"I" or self.pipeline.queue or self.groups.is_open:
            return False
        if self.database is None or path.asked == self.groups.number or self.pipeline.skipping:
            return False
        if begins or tag != QUERY_TAG or not self.asks_late or self.text.encoding is not UTF8 or end - start > MUCH:
            return True  # a long text is not searched here
        screen, text = self.planner.screen, self.client_frames.data[start + HEADER : end - 1]
        needs = screen.mentions(text) or self.observes(text)
        return needs or not (screen.passes(text, self.catalog.created) or screen.alone(text))

    def _path_told(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        """Go on with the path; where it could not be read the message that needs it says so."""
        self.blocked = False
        self.take_session_settings(ok, rows)
        if self.search_path.schemas is None:
            self.search_path.asked = self.groups.number

    def ask_path_when_idle(self, *, of_styles: bool) -> bool:
        """Ask the server for this session's search path once nothing is in flight; False when that cannot be done.

        Replies to whole Sync groups come without the client's help and are waited for. Inside an open group the server does not
        tell of the settings by which values are spelled (``of_styles``).
        """
        idle = self.pipeline.front() is None
        if self.pipeline.skipping or (idle and self.status == b"E") or (of_styles and self.groups.is_open):
            return False
        if self.search_path.asked == self.groups.number and not self.groups.is_open:
            return False  # it was asked for this message, and could not be read
        if not waits_in_group(self) and idle:
            ask_path(self, self._path_read)
        return True

    def _path_read(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        self.blocked = False
        self.take_session_settings(ok, rows)
        if self.search_path.schemas is None and not self.pipeline.skipping:
            self._refuse_next(path_unknown())
