"""The state of one conversation, and what the handlers of both sides share; knows neither the loop nor the handlers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from phiproxy.errors import PathNeeded, PhiproxyError, ProtectionChanged, ValueRefused, WireError
from phiproxy.plan.cache import Planner, View
from phiproxy.plan.copy import CopyIn
from phiproxy.plan.names import NO_NAMES, KnownNames
from phiproxy.session.audit import Doubt, DoubtfulReads
from phiproxy.session.fence import Fence
from phiproxy.session.gate import Gate, Guard
from phiproxy.session.phases import AUTHENTICATING, CLIENT_STREAMS, CLOSED, READY, SERVER_STREAMS, TRANSPARENT
from phiproxy.session.pipeline import Expected, Kind, Pipeline, Undo
from phiproxy.session.prepared import Names
from phiproxy.session.work import Work
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8, Encoding
from phiproxy.wire.framing import FrameBuffer
from phiproxy.wire.messages import decode_error_fields, encode_error_fields, error_response

# Before a client is let in it has only passwords and SASL messages to say (postgres: PG_MAX_AUTH_TOKEN_LENGTH).
MAX_BEFORE_LOGIN = 65535


class Database(Protocol):
    """What a session is told of its database; the planner is replaced when policy, registry or catalogue change."""

    @property
    def planner(self) -> Planner:
        """The planner of now."""

    @property
    def generation(self) -> int:
        """A number that changes with the planner."""

    @property
    def made(self) -> set[str]:
        """Names that sessions have made over protected tables, and the planner does not know yet."""

    @property
    def confirmed(self) -> set[str]:
        """Names that every live proxy has heard of, and DDL is about to make."""

    @property
    def fence(self) -> Fence:
        """Until when what is known here of the names may be relied on."""

    @property
    def doubtful(self) -> Counter[Doubt]:
        """What was opened under compromised or stale keys and nobody has asked about yet."""

    def audit(self, opened: Mapping[Doubt, int]) -> None:
        """Record that one execution of a statement has opened these."""

    def announce(self) -> None:
        """Let every proxy look at the catalogue now: DDL that names something protected has ended."""


@dataclass(slots=True)
class Counters:
    """What sessions have done: one object for all of a listener, so that those that ended count too; read by metrics."""

    forwarded: int = 0
    rewritten: int = 0
    refused: int = 0
    open_failures: int = 0


class State:
    """One conversation. ``database`` is None where no policy names it: bytes then pass as they come, through the ``gate``.

    ``guard`` tells of a text why no session may send it, whatever its database.
    """

    # More than thirty attributes in a dictionary are looked up by hash, and their memory is four times as much.
    __slots__ = (
        "announced", "asked", "backend_key", "blocked", "catalog_fresh", "changed", "client_frames", "closed_behind",
        "conforming", "copy_failed", "copy_outdated", "copying", "counters", "created", "database", "database_name", "doubtful",
        "encoding", "encoding_changed", "encoding_set", "fence", "flushed", "gate", "group_executes", "group_open", "guard",
        "has_temporary", "later", "left", "max_message", "names", "negotiation", "now", "outdated", "overlaid", "overlay",
        "overlays", "path", "path_changed", "path_generation", "path_schemas", "phase", "pipeline", "quiet", "reaching",
        "server_frames", "server_said_fatal", "settings", "status", "strip_plus", "styles", "styles_changed", "styles_set",
        "suspect", "swallowing", "to_client", "to_server", "unbound", "waiting", "wanted", "worked",
    )  # fmt: skip

    def __init__(  # noqa: PLR0915 - one line for each attribute
        self,
        database: Database | None,
        name: str,
        *,
        max_message: int = 64 * 1024 * 1024,
        strip_plus: bool = False,
        counters: Counters | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.database, self.guard = database, guard
        self.gate = Gate(guard, max_message) if guard is not None and database is None else None
        self.database_name = name
        self.fence = database.fence if database is not None else Fence()
        self.now = 0.0
        self.phase = AUTHENTICATING
        self.client_frames = FrameBuffer(min(max_message, MAX_BEFORE_LOGIN), streams=CLIENT_STREAMS)
        self.server_frames = FrameBuffer(max_message, streams=SERVER_STREAMS)
        self.max_message = max_message
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.pipeline = Pipeline()
        self.names = Names()
        self.counters = counters if counters is not None else Counters()
        self.strip_plus = strip_plus
        self.unbound: PhiproxyError | None = None
        self.negotiation: bytes | None = None
        self.asked = ""
        self.status = b"I"
        self.group_executes, self.group_open = 0, False
        self.path: tuple[str, ...] | None = None
        self.path_changed: int | None = None
        self.path_schemas: frozenset[str] = frozenset()
        self.path_generation = self.outdated = -1
        self.has_temporary = False
        self.settings: dict[str, str] = {}
        self.styles = Styles.CANONICAL
        self.styles_changed: int | None = None
        self.styles_set = False
        self.created, self.suspect, self.wanted = frozenset[str](), frozenset[str](), frozenset[str]()
        self.changed: int | None = None
        self.announced: int | None = None
        self.overlay: Planner | None = None
        self.overlaid = self.left = self.flushed = -1  # groups
        self.overlays = 0
        self.reaching: dict[str, str] = {}
        self.encoding: Encoding | None = UTF8
        self.conforming = True
        self.encoding_set: int | None = None
        self.encoding_changed: int | None = None
        self.quiet = False
        self.blocked = self.later = self.copy_outdated = False
        self.catalog_fresh = self.swallowing = False
        self.closed_behind: list[Undo] = []
        self.copying: CopyIn | None = None
        self.copy_failed = False
        self.waiting: str | None = None
        self.worked: list[Work] = []
        self.server_said_fatal = False
        self.backend_key: bytes | None = None
        self.doubtful: DoubtfulReads | None = None

    @property
    def closed(self) -> bool:
        """Tell whether both sockets must be closed once the output is written."""
        return self.phase is CLOSED

    @property
    def framed(self) -> bool:
        """Tell whether messages are told apart here."""
        return self.phase in (AUTHENTICATING, READY)

    @property
    def planner(self) -> Planner:
        """The planner of now: the database's, or that of what this transaction has made of the catalogue."""
        assert self.database is not None
        return self.overlay if self.overlay is not None else self.database.planner

    @property
    def inside(self) -> bool:
        """Tell whether the client has got the beginning of a long message and not its end: nothing else can be said to it now."""
        return bool(self.server_frames.passing and self.server_frames.kept)

    @property
    def stalled(self) -> bool:
        """Tell whether the client's next message waits, whole or not, for something that the server is to say."""
        return self.blocked or self.later

    @property
    def busy(self) -> bool:
        """Tell whether the server may be working on something (always, where bytes are not looked at)."""
        return self.phase is TRANSPARENT or bool(self.pipeline.queue)

    def protection_changed(self) -> None:
        """Note that what is protected is another thing now: a COPY that began before ends before anything more of it passes."""
        self.outdated = self.names.group - (not self.group_open)
        self.copy_outdated = self.pipeline.copy_in
        if self.pipeline.copy_in and self.client_frames.passing and self.client_frames.kept:
            self.fatal(copy_outdated())  # in the middle of a message there is no other end

    @property
    def front_is_outdated(self) -> bool:
        """Tell whether the message that the server works on now was sent before the last such change.

        Not behind a CopyInResponse: the server ignores the Sync that would tell.
        """
        if self.outdated < 0:
            return False
        entries = (entry.group for entry in self.pipeline.queue if entry.kind in (Kind.QUERY, Kind.SYNC))
        return next(entries, self.names.group) <= self.outdated

    def check_guarded(self, text: bytes) -> None:
        """Refuse a text that would rename or copy a database with a policy; a PhiproxyError."""
        error = self.guard(text) if self.guard is not None else None
        if error is not None:
            raise error

    def fatal(self, error: PhiproxyError) -> None:
        """Say a last word to the client, where one can be put, and close."""
        if not self.inside:
            self.to_client.append(self.said(error_response(error.sqlstate, error.public_text, hint=error.hint, severity="FATAL")))
        self.phase = CLOSED
        self.quiet = False

    def count_doubtful(self, front: Expected) -> None:
        """Count for this execution what has just been opened under doubtful keys."""
        assert self.database is not None
        opened = self.database.doubtful
        if not opened:
            return
        if self.doubtful is None or not self.doubtful.is_of(front):
            self.tell_doubtful()
            self.doubtful = DoubtfulReads(front, front.part)
        self.doubtful.opened.update(opened)
        opened.clear()

    def tell_doubtful(self) -> None:
        """Record what the last execution that opened such values has opened: it is over, or the conversation is."""
        reads, self.doubtful = self.doubtful, None
        if reads is not None and self.database is not None:
            self.database.audit(reads.opened)

    def said(self, words: bytes) -> bytes:
        """Return an ErrorResponse of the proxy's own in the client's encoding."""
        if words.isascii() or self.encoding is UTF8:
            return words
        shown = self.encoding.shown if self.encoding is not None else _ascii
        return encode_error_fields(b"E", [(code, shown(value)) for code, value in decode_error_fields(words, 5, len(words))])

    @property
    def known(self) -> KnownNames:
        """The session's names as the planner asks for them; the whole Session knows them."""
        return NO_NAMES

    def view(self) -> View:
        """Return what the planner must know of this session."""
        self.follow_schemas()
        set_ = self.path_changed is not None
        known, path, readable = self.known, self.sure_path, self.encoding is not None
        return View(path, self.database_name, self.created, readable, self.catalog_fresh, set_, known, self.styles)

    @property
    def sure_path(self) -> tuple[str, ...] | None:
        """The search path for the client's next message.

        A change in a group that is not answered may yet fail, and what comes behind that group would then run without it.
        """
        changed = self.path_changed
        return self.path if changed is None or changed == self.names.group or changed <= self.names.answered else None

    def follow_schemas(self) -> None:
        """Forget the search path where schemas have come or gone since it was asked for: only the server knows which are on it."""
        if self.database is None or self.path_generation == self.database.generation:
            return
        self.path_generation = self.database.generation
        if self.path_schemas != self.database.planner.schemas:
            self.path = None

    def internal(self, messages: bytes, done: Callable[[bool, list[bytes]], None], *, in_group: bool = False) -> None:
        """Send messages of the proxy's own, ending in Sync; the client's wait until ``done(ok, rows)`` has been called.

        ``in_group``: they end in two Closes and a Flush.
        """
        if self.client_frames.passing:
            raise WireError("the server's answer came in the middle of a message to it")
        self.blocked = True
        self.to_server.append(messages)
        self.pipeline.push(Expected(Kind.INTERNAL, done=done, rows=[], closes=2 if in_group else 0))

    def path_is(self, ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - the shape of a callback
        """Take the unreported settings and the search path that the server answered; what cannot be read leaves it unknown."""
        try:
            said = [self._name(row) for row in rows] if ok else []
        except (UnicodeDecodeError, ValueRefused):
            said = []
        if len(said) < 2:
            self.path = None
            return
        self.settings["bytea_output"], self.settings["extra_float_digits"] = said[:2]
        self.styles = Styles.of(self.settings)
        self.path, self.has_temporary = self.planner.path(said[2:])

    def _name(self, row: bytes) -> str:
        return row.decode("ascii") if self.encoding is None else self.encoding.to_utf8(row).decode("utf-8")

    def reported(self, name: str, value: str) -> None:
        """Take a setting that the server told of."""
        self.settings[name] = value
        self.styles = Styles.of(self.settings)

    def styles_for(self, *, typed: bool) -> Styles:
        """Return how values are spelled that the client's next message gives or asks for.

        PathNeeded where they are not all texts (``typed``) and a statement before it may have changed that.
        """
        changed = self.styles_changed
        if typed and (self.sure_path is None or (changed is not None and changed > self.names.answered)):
            raise PathNeeded(1, of_styles=True)
        return self.styles


def copy_outdated() -> ProtectionChanged:
    """Return what ends a COPY that began under another policy."""
    return ProtectionChanged(
        "terminating COPY because the policy was changed while it ran", hint="Run it again: it is planned by the policy of now."
    )


def _ascii(text: bytes) -> bytes:
    """Return a text in an encoding that is not known here, but for what is no ASCII in it."""
    return bytes(c if c < 128 else ord("?") for c in text)
