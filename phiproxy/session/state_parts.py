"""What a session keeps, in parts: each says of one thing what is so now. ``State`` holds one of each.

Numbers of Sync groups (``SyncGroups.number``) say when something was sent; whether that is answered, or taken back, is told by the
ReadyForQuery that answers the group.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from phiproxy.errors import PhiproxyError
from phiproxy.plan.copy_sealing import CopyIn
from phiproxy.plan.counted_subjects import Collected
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import READ_UNDER
from phiproxy.session.pipeline import Expected
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8, Encoding, beside, encoding_of


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """Tables are about to be switched. ``mentions`` tells of a text whether it may name one, or what a switch of one changes."""

    mentions: Callable[[bytes], bool]


@dataclass(slots=True, eq=False)
class Held:
    """What one session does while tables are about to be switched.

    ``begun``: what it had begun before is not over, so that all of it passes. ``asked``: the Sync group before which the server was
    asked last for the isolation level (-1: never), and ``same_snapshot`` that a transaction keeps its first snapshot under that.
    ``beat``: when the server's timers are to be set back next, and ``until`` when what waits must go on, by the clock of
    ``State.now``; ``timed``: the group before which that was asked. ``over``: nothing of the
    session's waits any more, though others' may.
    """

    holding: Holding
    begun: bool
    asked: int = -1
    same_snapshot: bool = True
    ended: int = -1
    beat: float = -math.inf
    until: float = math.inf
    timed: int = -1
    over: bool = False


@dataclass(slots=True)
class Fence:
    """Until when what a proxy knows of a database's names may be relied on; all sessions of the database share one.

    DDL that makes a name waits for every proxy that lives. One that was stopped, or that could not reach the database, is no longer
    waited for: it must look again before it says of a statement that nothing protected is in it.
    """

    # A moment of the clock that ``State.now`` is of.
    until: float = math.inf
    # Tables are about to be switched: statements that name them wait until that is over.
    holding: Holding | None = None
    # How often sessions of this proxy have changed which schemas others may have on their path.
    schema_changes: int = 0


@dataclass(slots=True)
class Login:
    """What is said before the first ReadyForQuery."""

    # The client's leg cannot bind to the server's certificate, so the -PLUS mechanisms are left out of the server's offer.
    strip_plus: bool = False
    # The error that is said instead of an offer of -PLUS, where the client would bind to another certificate than the server's.
    unbound: PhiproxyError | None = None
    # NegotiateProtocolVersion, owed to the client before the first authentication message.
    negotiation: bytes | None = None
    # What the server calls the answer that it waits for ("password", "SASL", "GSS"); empty where it waits for none.
    asked: str = ""
    # Told whether the server is a standby, as soon as it says so; returns why the session must not begin there, or None.
    server_is: Callable[[bool], PhiproxyError | None] | None = None
    # Process id and secret of BackendKeyData, with which a query is cancelled.
    backend_key: bytes | None = None

    @property
    def process_id(self) -> int:
        """The process id of the session at the server, 0 where that has told none."""
        return int.from_bytes(self.backend_key[:4], "big", signed=True) if self.backend_key is not None else 0


@dataclass(slots=True)
class SyncGroups:
    """The Sync groups of the conversation, numbered; a simple Query and a FunctionCall are groups of their own (manual 55.2.3)."""

    # The one that is being sent.
    number: int = 0
    # The last one that a ReadyForQuery has answered.
    answered: int = -1
    # How many Executes were sent in the one that is being sent.
    executes: int = 0
    # Whether anything was sent in it: a Sync of the proxy's own would then end its transaction.
    is_open: bool = False
    # The one in which Flush was sent, so that the replies awaited come.
    flushed: int = -1


class EndUser(NamedTuple):
    """An end user behind a role: the name, and how that is known. ``roles`` count beside the role, until the time ``until``."""

    name: str
    how: str = "asserted"
    roles: tuple[str, ...] = ()
    until: float = math.inf


class Acting(NamedTuple):
    """Who acts. ``reason``: the role has given one, whose time is not over, to see what it does not."""

    role: str
    roles: tuple[str, ...] = ()
    expired: bool = False
    reason: bool = False


class GivenReason(NamedTuple):
    """Why somebody is to see what his role does not, and until when."""

    reason: str
    until: float


@dataclass(slots=True)
class SearchPath:
    """The search path, as the server last told it."""

    # The schemas, and behind an empty name the temporary tables that hide others (``plan.search_path``); None: not known.
    schemas: tuple[str, ...] | None = None
    # The schemas that there were, how often sessions had changed them (``Fence``), and the number of the planner, when it was asked
    # for: it is asked again where others have come.
    existing: frozenset[str] = frozenset()
    changes: int = 0
    generation: int = -1
    # The Sync group before which it was asked for, and could not be read: it is not asked for again before a message needs it.
    asked: int = -1
    # Whether the session has temporary tables.
    has_temporary: bool = False
    # Whether one of them hides a protected one, or whether DDL that does not name that may bring it about.
    hides: bool = False
    # The current role, which the path depends on: it is asked with it.
    role: str | None = None
    # The setting phiproxy.end_user, and the names that this session has set it to, by what the server keeps in their place.
    user: str = ""
    users: dict[str, EndUser] = field(default_factory=dict)
    # What of that was given by SET LOCAL in this transaction, and so holds for no other one, whatever the server's setting is then.
    local: set[str] = field(default_factory=set)
    # The setting phiproxy.reason, and the reasons of this session, likewise.
    reason: str = ""
    # The setting phiproxy.purpose.
    purpose: str = ""
    reasons: dict[str, GivenReason] = field(default_factory=dict)

    def forget_ended(self) -> None:
        """Forget names and reasons that are not in use when no transaction is: nothing but a SET of the client brings one back."""
        self.users = {mark: user for mark, user in self.users.items() if mark == self.user and mark not in self.local}
        self.reasons = {mark: given for mark, given in self.reasons.items() if mark == self.reason}
        self.local.clear()


@dataclass(slots=True)
class TextSettings:
    """How the client's texts are read, as the server last told it."""

    # client_encoding; None for one that is not known here.
    encoding: Encoding | None = UTF8
    # server_encoding: what the client says must be in it too. Bytes of SQL_ASCII may be anything.
    database: Encoding = UTF8
    # standard_conforming_strings.
    conforming: bool = True

    def told(self, name: bytes, value: bytes) -> None:
        """Take client_encoding or server_encoding, of which the server tells in any order."""
        named = encoding_of(value.decode("ascii", "replace"))
        if name == b"server_encoding":
            self.database, named = named or UTF8, self.encoding
        self.encoding = named and beside(named, self.database)


@dataclass(slots=True)
class ValueStyles:
    """How values are spelled that are no texts: dates, intervals, numbers, bytea."""

    current: Styles = Styles.CANONICAL
    # The settings that ``current`` is made of.
    settings: dict[str, str] = field(default_factory=dict)
    # Of them those under which constants are read, and how they are, in the order of ``plan.split_plan.READ_UNDER``.
    read: tuple[str | None, ...] = ()
    # One of them was set, and the end of the transaction may take that back.
    set_in_transaction: bool = False

    def told(self, settings: Mapping[str, str]) -> None:
        """Take settings that the server has told."""
        self.settings.update(settings)
        self.current = Styles.of(self.settings)
        told = {name.lower(): value for name, value in self.settings.items()}
        self.read = tuple(told.get(name) for name in READ_UNDER)


@dataclass(slots=True)
class CatalogChanges:
    """What the client's own DDL has made of the catalogue (``transaction_catalog``)."""

    # The planner of what the transaction has made of the catalogue, as it was read inside of it; None: that of all sessions.
    overlay: Planner | None = None
    # How many overlays there were: plans of different ones are not mixed.
    overlays: int = 0
    # The group in which the overlay was read where no transaction block was open: it ends with that group.
    overlaid_in: int = -1
    # The last group that ended a transaction or savepoint while the catalogue was not as all see it.
    left_in: int = -1
    # It was read for the message that is being handled.
    fresh: bool = False
    # Relations that the session has made, and nobody else.
    created: frozenset[str] = frozenset()
    # Those that become such once the server has made them.
    made: dict[bytes, str] = field(default_factory=dict)
    # Those of them that something protected may be reached through: only the catalogue tells.
    suspect: frozenset[str] = frozenset()
    # Those of them whose code may change the session's path and settings, which the server does not tell in a transaction.
    setters: frozenset[str] = frozenset()
    # Names that statements had beside protected ones and that are to be looked for in the transaction's catalogue.
    wanted: frozenset[str] = frozenset()
    # Names that reach something protected by what the transaction has made, each with the reason.
    reaching: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CopyState:
    """The COPY FROM that the server works on, and the last change of the policy, behind which no COPY goes on."""

    # Seals the rows of the client's data; None where they go to an unprotected table.
    rows: CopyIn | None = None
    # It was ended by a CopyFail of the proxy's own: what the client still sends is dropped.
    failed: bool = False
    # The policy has changed since it was sent.
    outdated: bool = False
    # The last group that was sent, in whole or in part, before the policy changed; -1: it did not.
    outdated_group: int = -1
    # Nothing is taken until the server asks for the data of a simple Query that is run as messages, or says why it does not …
    awaited: bool = False
    # … and then the last of these messages wait until the data has ended.
    behind: bytes = b""


class Opening:
    """What is told of an opened value: its column, its data key, and why the key is in doubt (empty: it is not). Never the value.

    ``masked``: a mask is shown instead of it; where that does not depend on the value nothing was opened, and the data key is 0.
    The openings of one column under one key are one object.
    """

    __slots__ = ("column", "data_key", "doubt", "masked")

    def __init__(self, column: str, data_key: int, doubt: str = "", *, masked: bool = False) -> None:
        self.column, self.data_key, self.doubt, self.masked = column, data_key, doubt, masked

    def __repr__(self) -> str:
        return f"<Opening: {self.column} under {self.data_key:08x}{' ' * bool(self.doubt)}{self.doubt}>"


@dataclass(slots=True)
class Executing:
    """The execution whose result comes now: whose reply it is, and which of a simple query's; what of it was opened so far.

    The database collects what its ciphers open. Nothing in a session awaits, so what is collected between two calls belongs to one.
    ``subjects`` are those whom its rows so far are about. ``number`` is that of the record that says that rows of it are shown; 0
    where there is none.
    """

    front: Expected
    part: int
    opened: Counter[Opening] = field(default_factory=Counter)
    subjects: Collected | None = None
    number: int = 0

    def is_of(self, front: Expected) -> bool:
        """Tell whether this is the execution that the reply belongs to."""
        return self.front is front and self.part == front.part
