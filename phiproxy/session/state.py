"""The state of one conversation, and what the handlers of both peers share; knows neither the loop nor the handlers."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from phiproxy.access.rules import AccessRules
from phiproxy.effects import is_purpose
from phiproxy.errors import PathNeeded, PhiproxyError, ProtectionChanged, ValueRefused, WireError
from phiproxy.plan.named_statements import KnownNames, View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.session.needs import Work
from phiproxy.session.observer import UNOBSERVED
from phiproxy.session.observer import Observer as SessionObserver
from phiproxy.session.pending import Pending
from phiproxy.session.phases import (
    AUTHENTICATING,
    CLIENT_STREAMS,
    CLOSED,
    LOGGED_IN,
    SERVER_STREAMS,
    TRANSPARENT,
    Event,
    Peer,
    after,
)
from phiproxy.session.pipeline import Expected, Kind, Pipeline
from phiproxy.session.split_execution import Computing, Counted, Writing
from phiproxy.session.state_parts import (
    Acting,
    CatalogChanges,
    CopyState,
    EndUser,
    Executing,
    Fence,
    Held,
    Login,
    Opening,
    SearchPath,
    SyncGroups,
    TextSettings,
    ValueStyles,
)
from phiproxy.session.statements_and_portals import Names, Portal
from phiproxy.session.trail import PURPOSE, Trail
from phiproxy.session.unprotected_database import Gate, Guard
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.framing import FrameBuffer
from phiproxy.wire.messages import decode_error_fields, encode_error_fields, error_response

# Before a client is let in it has only passwords and SASL messages to say (postgres: PG_MAX_AUTH_TOKEN_LENGTH).
MAX_BEFORE_LOGIN = 65535


class Observer(Protocol):
    """Takes the statements over columns that are in clear yet, to find out what would become of them if they were sealed."""

    def mentions(self, text: bytes) -> bool:
        """Tell whether a text may name something that is in clear."""

    def note(self, text: bytes, oids: tuple[int, ...], path: tuple[str, ...] | None) -> None:
        """Take a text that was sent, with its declared types and the search path, where that is known."""


class Database(Protocol):
    """What a session is told of its database; the planner is replaced when policy, registry or catalogue change."""

    @property
    def planner(self) -> Planner:
        """The planner of now."""

    @property
    def generation(self) -> int:
        """A number that changes with the planner."""

    @property
    def access(self) -> AccessRules | None:
        """Who sees what; None where everybody sees everything."""

    def seen(self, acting: Acting) -> "Database":
        """Return the database as who acts sees it: the same object for all who see the same."""

    def may_lift(self, acting: Acting) -> bool:
        """Tell whether who acts may have masks lifted by a reason."""

    def end_user(self, said: str, now: float) -> EndUser | None:
        """Return whom a token is of that is said to be the end user's; None where names are taken as they are.

        A PhiproxyError where it is none that can be believed. ``now`` is of the clock that ``EndUser.until`` is of.
        """

    def overlay_of(self, planner: Planner) -> Planner:
        """Return the planner of what a transaction has made of the catalogue, for those who see what this one does."""

    @property
    def unread_names(self) -> set[str]:
        """Names that sessions have made over protected tables, and the planner does not know yet."""

    @property
    def announced_names(self) -> set[str]:
        """Names that every live proxy has heard of, and DDL is about to make."""

    @property
    def fence(self) -> Fence:
        """Until when what is known here of the names may be relied on."""

    @property
    def observer(self) -> Observer | None:
        """Who observes statements; None where no column of the policy is in clear."""

    @property
    def opened(self) -> list[Opening | Noted]:
        """The openings of values that nobody has asked about yet, and the subjects of their rows.

        Without an audit log they are those under keys that are in doubt.
        """

    def audit(self, opened: Mapping[Opening, int]) -> None:
        """Tell, where there is no audit log, that one execution has opened these under keys that are in doubt."""

    def announce(self) -> None:
        """Let every proxy look at the catalogue now: DDL that names something protected has ended."""

    def schemas_changed(self) -> None:
        """Let every session ask for its search path again: schemas have come or gone, or others may use them than before."""


@dataclass(slots=True)
class Counters:
    """What sessions have done: one object for all of a listener, so that those that ended count too; read by metrics."""

    forwarded: int = 0
    rewritten: int = 0
    refused: int = 0
    open_failures: int = 0
    splits: int = 0
    rows_computed: int = 0
    engine_seconds: float = 0.0
    # Refusals by the section that explains them.
    reasons: Counter[str] = field(default_factory=Counter)


class State:
    """One conversation: what is known of both peers now. ``Session`` adds the loop.

    ``database`` is None where no policy names it. ``guard`` is asked of each text: it raises for one that would rename or copy a
    database with a policy, whichever database the session is in.
    """

    # With more than thirty attributes a dictionary would cost a hash look-up for each, and about four times the memory.
    __slots__ = (
        "acting_until", "ahead", "base", "blocked", "catalog", "client_frames", "computing", "copy", "counters", "database",
        "database_name", "ended_reason", "executing", "fence", "gate", "groups", "guard", "held", "hold", "later", "login",
        "max_message", "names", "now", "observer", "over", "pending", "phase", "pipeline", "reason", "released", "search_path",
        "server_frames", "server_said_fatal", "settled", "status", "styles", "suspended", "text", "to_client", "to_server",
        "trail", "unrecorded", "waiting", "worked", "writing",
    )  # fmt: skip

    def __init__(
        self,
        database: Database | None,
        name: str,
        *,
        max_message: int = 64 * 1024 * 1024,
        strip_plus: bool = False,
        counters: Counters | None = None,
        guard: Guard | None = None,
        trail: Trail | None = None,
    ) -> None:
        # The database, and that as who acts now sees it (``current_access_and_expiry``): until when, and
        # the reason for which it sees more.
        self.base, self.database, self.database_name, self.guard = database, database, name, guard
        self.acting_until = math.inf
        self.reason: str | None = None
        # One whose time has ended, and the last message that was sent under it, while its reply is awaited.
        self.ended_reason: tuple[str, Expected] | None = None
        # The way of the client's bytes to a database without a policy; None where they pass unread.
        self.gate = Gate(guard, max_message) if guard is not None and database is None else None
        # Until when the names of the database may be relied on, and the time of the call that is being worked on.
        self.fence, self.now = database.fence if database is not None else Fence(), 0.0
        # What it does while tables are about to be switched (``holding``); of an earlier switch it says nothing.
        self.hold: Held | None = None
        # Changed by nothing but ``happens``.
        self.phase = AUTHENTICATING
        # What has arrived and is not consumed, and what is to be written.
        self.max_message = max_message
        self.client_frames = FrameBuffer(min(max_message, MAX_BEFORE_LOGIN), streams=CLIENT_STREAMS)
        self.server_frames = FrameBuffer(max_message, streams=SERVER_STREAMS)
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        # The replies awaited; the Sync groups that they are of; prepared statements and portals.
        self.pipeline = Pipeline()
        self.groups = SyncGroups()
        self.names = Names(self.groups)
        # The transaction status of the last ReadyForQuery: I, T or E.
        self.status = b"I"
        # What was told, set or made, and what of it is pending.
        self.login = Login(strip_plus)
        self.search_path = SearchPath()
        self.text = TextSettings()
        self.styles = ValueStyles()
        self.catalog = CatalogChanges()
        self.copy = CopyState()
        self.pending = Pending(self.pipeline, self.catalog, self.copy)
        # The fast path may run: both peers are between two messages, and nothing is pending.
        self.settled = False
        # The client's messages wait for the answer to a question of the proxy's own.
        self.blocked = False
        # The client's next message waits for a reply to one before it.
        self.later = False
        # Whose message waits until a Need is met, and the work done for that message.
        self.waiting: Peer | None = None
        self.worked: list[Work] = []
        # Work on long values, and parts of long plans, that nobody needs any longer: to be let go of one by one.
        self.over: list[object] = []
        # The split statement that is executed now, portals whose rest is suspended, and computations that nobody needs any more.
        self.computing: Computing | None = None
        # What was planned when it came as a simple Query, and comes as a Parse next (``split_statements``).
        self.ahead: tuple[StatementPlan, Planner] | None = None
        self.suspended: list[Portal] = []
        # The write of one, whose messages are taken before the client's next ones.
        self.writing: Writing | None = None
        # The write that is executed, behind which nothing is sent until it is known what it has written.
        self.held: Counted | None = None
        self.released: list[object] = []
        # The server has said a last word: it closes the connection itself.
        self.server_said_fatal = False
        self.counters = counters if counters is not None else Counters()
        self.observer: SessionObserver = UNOBSERVED
        # The audit log; the execution of which something was opened and that is not over; and the ticket of the last record, which
        # must be durable before what stands in ``to_client`` is written (0: there is none).
        self.trail = trail
        self.executing: Executing | None = None
        self.unrecorded = 0

    @property
    def closed(self) -> bool:
        """Tell whether both sockets must be closed once the output is written."""
        return self.phase is CLOSED

    @property
    def framed(self) -> bool:
        """Tell whether messages are told apart here."""
        return self.phase in (AUTHENTICATING, LOGGED_IN)

    @property
    def planner(self) -> Planner:
        """The planner of now: the database's, or that of what this transaction has made of the catalogue."""
        assert self.database is not None
        return self.catalog.overlay if self.catalog.overlay is not None else self.database.planner

    @property
    def client_mid_message(self) -> bool:
        """Tell whether the client has got the beginning of a long message and not its end: nothing else can be said to it now."""
        return bool(self.server_frames.passing and self.server_frames.forwarded)

    @property
    def stalled(self) -> bool:
        """Tell whether the client's next message waits, whole or not, for something that the server is to say."""
        return self.blocked or self.later

    @property
    def busy(self) -> bool:
        """Tell whether the server may be working on something (always, where bytes are not looked at)."""
        return self.phase is TRANSPARENT or bool(self.pipeline.queue)

    @property
    def at_rest(self) -> bool:
        """Tell whether nothing is under way: no transaction, no statement, no group that has begun."""
        return self.status == b"I" and not self.pipeline.queue and not self.groups.is_open

    def protection_changed(self) -> None:
        """Note that what is protected is another thing now: a COPY that began before ends before anything more of it passes."""
        self.copy.outdated_group = self.groups.number - (not self.groups.is_open)
        self.copy.outdated = self.pipeline.copy_in
        if self.pipeline.copy_in and self.client_frames.passing and self.client_frames.forwarded:
            self.fatal(copy_outdated())  # in the middle of a message there is no other end

    @property
    def front_is_outdated(self) -> bool:
        """Tell whether the message that the server works on now was sent before ``protection_changed``.

        That cannot be told while a COPY FROM STDIN runs: the server ignores Sync then.
        """
        if self.copy.outdated_group < 0:
            return False
        entries = (entry.group for entry in self.pipeline.queue if entry.kind in (Kind.QUERY, Kind.SYNC))
        return next(entries, self.groups.number) <= self.copy.outdated_group

    def check_guarded(self, text: bytes) -> None:
        """Refuse a text that would rename or copy a database with a policy; a PhiproxyError."""
        error = self.guard(text) if self.guard is not None else None
        if error is not None:
            raise error

    def happens(self, event: Event) -> None:
        """Go over to the phase that follows; WireError for an event that may not happen in this one. Nothing else changes it."""
        self.phase = after(self.phase, event)

    def end_group(self) -> int:
        """End the Sync group that is being sent and return its number: what its ReadyForQuery will answer is sent."""
        groups = self.groups
        number = groups.number
        if self.catalog.overlaid_in == number:
            # It ends the transaction that the catalogue was read in.
            self.pending.catalog, self.catalog.overlaid_in = number, -1
        groups.number, groups.executes, groups.is_open = number + 1, 0, False
        return number

    def fatal(self, error: PhiproxyError) -> None:
        """Say a last word to the client, where one can be put, and close."""
        if not self.client_mid_message:
            self.to_client.append(self.said(error_response(error.sqlstate, error.public_text, hint=error.hint, severity="FATAL")))
        self.happens(Event.FATAL)
        self.settled = False

    def count_refusal(self, error: PhiproxyError, text: bytes | None) -> None:
        """Count a message that is refused, and have it told."""
        self.counters.refused += 1
        self.counters.reasons[error.anchor] += 1
        self.observer.refused(error, text)

    def said(self, words: bytes) -> bytes:
        """Return an ErrorResponse of the proxy's own in the client's encoding."""
        if words.isascii() or self.text.encoding is UTF8:
            return words
        shown = self.text.encoding.shown if self.text.encoding is not None else _ascii
        return encode_error_fields(b"E", [(code, shown(value)) for code, value in decode_error_fields(words, 5, len(words))])

    @property
    def known_names(self) -> KnownNames | None:
        """The session's names as the planner asks for them; the whole Session knows them."""
        return None

    def view(self) -> View:
        """Return what the planner must know of this session."""
        self.follow_schemas()
        return View(
            self.sure_path,
            self.database_name,
            self.catalog.created,
            self.text.encoding is not None,
            self.catalog.fresh,
            self.pending.path is not None,
            self.known_names,
            self.styles.current,
        )

    def observes(self, text: bytes) -> bool:
        """Tell whether a text may name a column that is in clear yet: then it goes the way on which it is observed."""
        observer = self.database.observer if self.database is not None else None
        return observer is not None and observer.mentions(text)

    def observe(self, text: bytes, oids: tuple[int, ...] = ()) -> None:
        """Have a text observed that was sent to the server as it must be."""
        if self.database is not None and self.database.observer is not None and self.observes(text):
            self.database.observer.note(text, oids, self.search_path.schemas)

    @property
    def role(self) -> str | None:
        """The current role, as the server last told it with the search path; None while that is not known."""
        return self.search_path.role if self.search_path.schemas is not None else None

    @property
    def user(self) -> EndUser | None:
        """The end user for whom the application acts; None where it says nothing, or that is not known."""
        path = self.search_path
        if path.schemas is None or not path.user:
            return None
        user = path.users.get(path.user)
        if user is None:  # which was said past the proxy; a token would stand in the log as it is
            tokens = self.base is not None and self.base.access is not None and self.base.access.tokens
            return None if tokens else EndUser(path.user)
        return user if user.name else None

    @property
    def watches(self) -> bool:
        """Tell whether it matters who acts: what is protected is recorded, or not shown to everybody."""
        return self.trail is not None or (self.base is not None and self.base.access is not None)

    @property
    def sure_path(self) -> tuple[str, ...] | None:
        """The search path for the client's next message.

        A change in a group that is not answered may yet fail, and what comes behind that group would then run without it.
        """
        changed, groups = self.pending.path, self.groups
        sure = changed is None or changed == groups.number or changed <= groups.answered
        return self.search_path.schemas if sure else None

    @property
    def asks_late(self) -> bool:
        """Tell whether the search path is asked for no sooner than a message comes that may need it: nothing hangs on who acts."""
        return self.trail is None and self.base is not None and self.base.access is None

    def follow_schemas(self) -> None:
        """Forget the search path where schemas have come or gone since it was asked for: only the server knows which are on it."""
        path, database = self.search_path, self.database
        if database is None or path.generation == database.generation:
            return
        path.generation = database.generation
        if path.existing != database.planner.schemas or path.changes != self.fence.schema_changes:
            path.schemas, self.settled = None, False

    def internal(self, messages: bytes, done: Callable[[bool, list[bytes]], None], *, in_group: bool = False) -> None:
        """Send messages of the proxy's own; the client's wait until ``done(ok, rows)`` has been called.

        They end in Sync, or with ``in_group`` in two Closes and a Flush, which leave the client's group open.
        """
        if self.client_frames.passing:
            raise WireError("the server's answer came in the middle of a message to it")
        self.blocked = True
        self.to_server.append(messages)
        self.pipeline.push(Expected(Kind.INTERNAL, done=done, rows=[], closes=2 if in_group else 0))

    def take_session_settings(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        """Take the unreported settings and the search path that the server answered; what cannot be read leaves it unknown."""
        try:
            read = self.text.encoding.to_utf8 if self.text.encoding is not None else None
            said = [row.decode("ascii") if read is None else read(row).decode("utf-8") for row in rows] if ok else []
        except (UnicodeDecodeError, ValueRefused):
            said = []
        if len(said) < 6:
            self.search_path.schemas = None
            return
        self.styles.told({"bytea_output": said[0], "extra_float_digits": said[1]})
        path = self.search_path
        path.role, path.user, path.reason = said[2], said[3], said[4]
        if self.status == b"I" and not self.groups.is_open:
            path.forget_ended()
        if self.trail is not None and said[5] != path.purpose:
            path.purpose = said[5]
            self.trail.told(PURPOSE, said[5] if is_purpose(said[5]) else "")
        path.schemas, path.has_temporary, path.hides = self.planner.path(said[6:])
        self.see()

    def see(self) -> None:
        """See the database as who acts now does; the whole Session does."""

    def styles_for(self, *, typed: bool) -> Styles:
        """Return how values are spelled that the client's next message gives or asks for.

        PathNeeded where they are not all texts (``typed``) and a statement before it may have changed that.
        """
        changed = self.pending.styles
        if typed and (self.sure_path is None or (changed is not None and changed > self.groups.answered)):
            raise PathNeeded(1, of_styles=True)
        return self.styles.current


def copy_outdated() -> ProtectionChanged:
    """Return what ends a COPY that began under another policy."""
    return ProtectionChanged(
        "terminating COPY because the policy was changed while it ran", hint="Run it again: it is planned by the policy of now."
    )


def _ascii(text: bytes) -> bytes:
    """Replace what is no ASCII by ``?`` in a text whose encoding is not known here."""
    return bytes(c if c < 128 else ord("?") for c in text)
