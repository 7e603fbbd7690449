"""A dialogue over a real Session, as a screenplay: who says what, and what the other side then gets.

What goes to the server is shown with its envelopes opened (``sealed(b"…")`` stands for one), since every sealing is another;
everything else is compared byte for byte. A screenplay must account for every byte: what was not asked for fails at its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import ndiff

from phiproxy.access.rules import AccessRules
from phiproxy.crypto.blind_tags import make_tagger
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.errors import DataKeyWant, IndexKeyWant, KeyWant, PhiproxyError, SealError, WriteKeyWant
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.session.core import Session
from phiproxy.session.needs import Need, NeedCatalog, NeedKeys
from phiproxy.session.phases import Phase
from phiproxy.session.state import Database, Observer
from phiproxy.session.state_parts import Acting, EndUser, Fence, Opening
from phiproxy.session.substitutes_and_questions import PATH_QUERY
from phiproxy.wire.fields import decode_bind, encode_bind
from tests.clinic_model import CATALOG, PATH, PATIENTS, PROTECTION, VISITS
from tests.session.frames import (
    AUTHENTICATION_OK,
    Frame,
    command_complete,
    data_row,
    error_fields,
    parse,
    query,
    raw,
    ready,
    show_client,
    show_server,
    split,
)

FAR = 1e9
SECRET = b"078-05-1120"
"""The value that no screenplay may let through to the server; use it wherever a protected value is said."""

SSN = PATIENTS.columns["ssn"]
MRN = PATIENTS.columns["mrn"]
FULL_NAME = PATIENTS.columns["full_name"]
DIAGNOSIS = VISITS.columns["diagnosis"]
COLUMNS: tuple[ProtectedColumn, ...] = (*PATIENTS.columns.values(), *VISITS.columns.values())

REFUSED_QUERY = query("SELECT pg_catalog.phiproxy_refused()")
SYNTAX_QUERY = query("phiproxy_refused")
REFUSED_BIND = raw(b"B", b"\0phiproxy_refused\0" + b"\0" * 6)


def refused_parse(name: str = "") -> Frame:
    return parse("SELECT pg_catalog.phiproxy_refused()", name)


# -- keys and planner ----------------------------------------------------------------------------------------------------------


def fill(ring: Keyring, wants: Container[KeyWant] | None = None) -> None:
    """Put fixed keys into a ring: those that are wanted, or for every scope and slot of the clinic."""
    for number, scope in enumerate(sorted({c.scope for c in COLUMNS}), start=1):
        key = DataKey(number, scope, "", 1, bytes([number]) * 32, "active")
        if wants is None or DataKeyWant(number) in wants:
            ring.put_data_key(key, FAR)
        if wants is None or any(WriteKeyWant(scope, uses) in wants for uses in range(1, 9)):
            ring.put_lease(scope, key, 1_000_000, FAR)
    for c in COLUMNS:
        for slot in c.slots:
            if wants is not None and IndexKeyWant(c.number, slot.number) not in wants:
                continue
            ring.put_index_key(c.number, slot.number, bytes([0x80 + c.number]) * 32, 1, FAR)


def full_ring() -> Keyring:
    ring = Keyring(lambda: 0.0)
    fill(ring)
    return ring


RING = full_ring()
CIPHERS = Ciphers(RING)
PLANNER = Planner(PROTECTION, CATALOG, CIPHERS)
"""The planner of whoever does not take keys away: shared, so that each text is analysed once in a run."""


@dataclass
class FakeDatabase:
    planner: Planner = PLANNER
    generation: int = 1
    unread_names: set[str] = field(default_factory=set)
    announced_names: set[str] = field(default_factory=set)
    observer: Observer | None = None
    fence: Fence = field(default_factory=Fence)
    announced: int = 0
    opened: list[Opening | Noted] = field(default_factory=list)
    audited: list[dict[Opening, int]] = field(default_factory=list)
    access: AccessRules | None = None

    def seen(self, acting: Acting) -> Database:
        return self

    def may_lift(self, acting: Acting) -> bool:
        return False

    def end_user(self, said: str, now: float) -> EndUser | None:
        return None

    def overlay_of(self, planner: Planner) -> Planner:
        return planner

    def audit(self, opened: Mapping[Opening, int]) -> None:
        self.audited.append(dict(opened))

    def announce(self) -> None:
        self.announced += 1

    def schemas_changed(self) -> None:
        self.fence.schema_changes += 1
        self.generation += 1


def envelope(column: ProtectedColumn, value: bytes) -> bytes:
    """Return what the server stores for a value."""
    return CIPHERS.stores([column])[column](value, CIPHERS.draw(column.scope, 1)[0])


def tag(column: ProtectedColumn, value: bytes) -> bytes:
    """Return what the server searches for a value."""
    return make_tagger(column.number, 0, 1, RING)(value)


def hexed(value: bytes) -> bytes:
    """Return bytea's text form."""
    return b"\\x" + value.hex().encode()


def sealed(value: bytes) -> bytes:
    """Return what stands for an envelope of a value, in what the server is shown to get."""
    return b"<sealed " + value + b">"


def _opened(value: bytes) -> bytes:
    for column in COLUMNS:
        try:
            return sealed(CIPHERS.open(column)(value))
        except SealError:
            continue
    return value


_BYTEA_LITERAL = re.compile(rb"'\\x(f550[0-9a-f]+)'::bytea")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def legible(frame: bytes) -> Frame:
    """Return a message of the client with its envelopes opened."""
    if frame[:1] == b"B" and len(frame) > 5:
        sent = decode_bind(frame, 5, len(frame))
        return Frame(encode_bind(sent._replace(values=[v if v is None else _opened(v) for v in sent.values])))
    if frame[:1] == b"Q" and len(frame) > 5:
        text = _BYTEA_LITERAL.sub(lambda m: _opened(bytes.fromhex(m[1].decode())), frame[5:-1])
        return query(text.decode()) if _is_utf8(text) else Frame(frame)
    return Frame(frame)


# -- what is expected ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Says:
    """An ErrorResponse or NoticeResponse with these fields; ``contains`` is part of its text, position -1 is any or none."""

    sqlstate: str
    contains: str = ""
    severity: str = "ERROR"
    position: int | None = -1

    def fits(self, frame: bytes) -> bool:
        if frame[:1] not in b"EN":
            return False
        fields = error_fields(frame)
        said = (fields.get("C"), fields.get("S"), fields.get("V"))
        placed = self.position == -1 or fields.get("P") == (None if self.position is None else str(self.position))
        return said == (self.sqlstate, self.severity, self.severity) and placed and self.contains in fields["M"]


Expectation = bytes | Says


def _same(expected: Sequence[Expectation], got: Sequence[bytes]) -> bool:
    return len(expected) == len(got) and all(
        e.fits(g) if isinstance(e, Says) else e == g for e, g in zip(expected, got, strict=True)
    )


@dataclass
class Screenplay:
    """``client_says`` and ``server_says`` feed the session; ``server_gets`` and ``client_gets`` take all that came out since."""

    database: FakeDatabase | None = field(default_factory=FakeDatabase)
    log_in: bool = True
    strip_plus: bool = False
    secrets: tuple[bytes, ...] = (SECRET,)

    def __post_init__(self) -> None:
        self.session = Session(self.database, "clinic", strip_plus=self.strip_plus)
        self.need: Need | None = None
        self.sent_to_server = b""
        if self.log_in:
            self.logs_in()

    def __enter__(self) -> Screenplay:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.ends()

    def logs_in(self, path: Sequence[str] = PATH) -> None:
        """Play the login: the path is asked before the first ReadyForQuery is shown."""
        self.server_says(AUTHENTICATION_OK, ready())
        self.client_gets(AUTHENTICATION_OK)
        self.tells_path(path)
        self.client_gets(ready())

    def tells_path(self, path: Sequence[str] = PATH, status: str = "I") -> None:
        """Play the proxy's question for the search path and the server's answer."""
        self.server_gets(*split(PATH_QUERY))
        self.server_says(*path_answer(path, status))

    def client_says(self, *frames: bytes) -> None:
        assert self.need is None, f"the session still waits for {self.need}"
        self.need = self.session.from_client(b"".join(frames))

    def server_says(self, *frames: bytes) -> None:
        assert self.need is None, f"the session still waits for {self.need}"
        self.need = self.session.from_server(b"".join(frames))

    def server_gets(self, *expected: Expectation) -> None:
        got, self.session.to_server = b"".join(self.session.to_server), []
        self.sent_to_server += got
        self._compare("server", expected, [legible(f) for f in split(got)], show_client)

    def client_gets(self, *expected: Expectation) -> None:
        got, self.session.to_client = b"".join(self.session.to_client), []
        self._compare("client", expected, list(split(got)), show_server)

    def _compare(self, who: str, expected: Sequence[Expectation], got: Sequence[bytes], show: Callable[[bytes], str]) -> None:
        if _same(expected, got):
            return
        wanted = [str(e) if isinstance(e, Says) else show(e) for e in expected]
        diff = "\n".join(ndiff(wanted, [show(g) for g in got]))
        message = f"the {who} should get (-), but gets (+):\n{diff}"
        raise AssertionError(message)

    def needs_keys(self) -> frozenset[KeyWant]:
        """Return what the session waits for."""
        assert isinstance(self.need, NeedKeys), self.need
        return self.need.wants

    def needs_catalog(self) -> None:
        assert isinstance(self.need, NeedCatalog), self.need

    def resumes(self, failure: PhiproxyError | None = None) -> None:
        assert self.need is not None
        self.need = self.session.resume(failure)

    def ends(self) -> None:
        """Check that all was accounted for, and that no secret went to the server."""
        self.server_gets()
        self.client_gets()
        assert self.need is None, self.need
        for secret in self.secrets:
            assert secret not in self.sent_to_server
            assert secret.hex().encode() not in self.sent_to_server.lower()

    def is_closed(self) -> None:
        assert self.session.phase is Phase.CLOSED

    def is_terminated(self) -> None:
        """Check that the client has said goodbye, and that its side stays open for the server's last words."""
        assert self.session.phase is Phase.TERMINATED
        assert not self.session.closed

    def is_idle(self) -> None:
        """Check that no reply is awaited."""
        assert self.session.phase is Phase.LOGGED_IN
        assert not self.session.pipeline.queue
        assert not self.session.busy


def path_answer(path: Sequence[str], status: str = "I") -> list[Frame]:
    """Return a server's replies to the question for the path."""
    rows = [data_row(name.encode()) for name in ("hex", "1", "app", "", "", "", *path)]
    return [raw(b"1"), raw(b"2"), *rows, command_complete(f"SELECT {len(rows)}"), raw(b"3"), raw(b"3"), ready(status)]
