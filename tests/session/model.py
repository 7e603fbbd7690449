"""A small PostgreSQL: the extended protocol's rules (manual 55.2.3, postgres.c) over a dozen statements, and no data.

``Server(physical=False)`` answers as a server with a plaintext table would answer the client directly; ``Server(physical=True)`` as
the one behind the proxy, whose table holds envelopes. A dialogue through the proxy must look like one with the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

from phiproxy.errors import MalformedMessage
from phiproxy.wire.fields import decode_bind, expand_formats
from phiproxy.wire.messages import Field, decode_execute, decode_parse, decode_query, decode_target
from tests.clinic_model import PATH
from tests.session import frames
from tests.session.screenplay import hexed
from tests.session.statements import COPY_FROM, EXIT, KNOWN, LO_CREAT, REFUSALS, SEALED, Statement, known


class PgError(Exception):
    """An ErrorResponse, and what was said before it."""

    def __init__(self, state: str, before: bytes = b"") -> None:
        super().__init__(state)
        self.state = state
        self.before = before


@dataclass
class Portal:
    """A portal and how far it was read. One that lost its plan in an abort is not known any more to leave a transaction."""

    statement: Statement
    formats: tuple[int, ...]
    position: int = 0
    done: bool = False
    failed: bool = False
    planned: bool = True


class Server:
    """One backend. ``receive`` takes one message and returns the replies."""

    def __init__(self, *, physical: bool) -> None:
        self.physical = physical
        self.statements: dict[bytes, Statement] = {}
        self.portals: dict[bytes, Portal] = {}
        self.saved: dict[bytes, Portal] | None = None
        self.block = self.failed = self.skipping = False
        self.copying: str = ""
        self.copied = 0
        self._pending = b""
        self.fails = ""
        """The SQLSTATE that the next message is refused with, where it would do something."""
        self.breaks_at = -1
        """The number of the reply that is an error instead of a row."""
        self.said = 0

    def receive_bytes(self, data: bytes) -> bytes:
        """Take any chunk."""
        self._pending += data
        replies = []
        while len(self._pending) >= 5 and len(self._pending) >= (end := 1 + unpack_from("!I", self._pending, 1)[0]):
            frame, self._pending = self._pending[:end], self._pending[end:]
            replies.append(self.receive(frame))
        return b"".join(replies)

    def receive(self, frame: bytes, fails: str = "") -> bytes:
        """Take one message."""
        self.fails = fails
        replies = self._receive(frame)
        self.said += sum(1 for _ in frames.split(replies))
        return replies

    def _receive(self, frame: bytes) -> bytes:
        tag = chr(frame[0])
        if self.copying:
            return self._copying(tag, frame)
        if tag == "S":
            return self._sync()
        if self.skipping or tag in "dcfHX":
            return b""
        if tag in "QF":
            return self._ends_in_ready(tag, frame)
        try:
            return {"P": self._parse, "B": self._bind, "D": self._describe, "E": self._execute, "C": self._close}[tag](frame)
        except (PgError, MalformedMessage) as error:
            self.skipping = True
            return self._fails(error if isinstance(error, PgError) else PgError("08P01"))

    # -- the messages ----------------------------------------------------------------------------------------------------------

    def _fails(self, error: PgError) -> bytes:
        if self.block:
            self.failed = True
            for name, portal in self.portals.items():
                if self.saved is None or self.saved.get(name) is not portal:
                    portal.failed, portal.planned = portal.failed or not portal.done, False
        else:
            self.portals.clear()
        return error.before + frames.error(error.state)

    def _ready(self) -> bytes:
        if not self.block:
            self.portals.clear()
        return frames.ready("E" if self.failed else "T" if self.block else "I")

    def _sync(self) -> bytes:
        self.skipping = False
        return self._ready()

    def _live(self, statement: Statement) -> None:
        if self.failed and statement.utility not in EXIT:
            raise PgError("25P02")

    def _analysed(self, text: str) -> Statement:
        statement = known(text)
        if statement.syntax_error:
            raise PgError("42601")
        if self.fails:
            self._live(statement)
            raise PgError(self.fails)
        if statement.tag or statement.parse_error:
            self._live(statement)
        if statement.parse_error:
            raise PgError(statement.parse_error)
        return statement

    def _parse(self, frame: bytes) -> bytes:
        sent = decode_parse(frame, 5, len(frame))
        if not sent.name:
            self.statements.pop(b"", None)
        statement = self._analysed(sent.query.decode())
        if sent.name in self.statements:
            raise PgError("42P05")
        self.statements[sent.name] = statement
        return frames.PARSE_COMPLETE

    def _bind(self, frame: bytes) -> bytes:
        sent = decode_bind(frame, 5, len(frame))
        statement = self.statements.get(sent.statement)
        if statement is None:
            raise PgError("26000")
        if len(sent.values) != len(self._parameters(statement)):
            raise PgError("08P01")
        if self.failed and (statement.utility not in EXIT or sent.values):
            raise PgError("25P02")
        if self.fails:
            raise PgError(self.fails)
        if sent.portal and sent.portal in self.portals:
            raise PgError("42P03")
        self.portals[sent.portal] = Portal(statement, expand_formats(sent.result_formats, len(statement.columns)))
        return frames.BIND_COMPLETE

    def _parameters(self, statement: Statement) -> tuple[int, ...]:
        return statement.physical_parameters if self.physical else statement.parameters

    def _describe(self, frame: bytes) -> bytes:
        target = decode_target(frame, 5, len(frame))
        if target.kind == b"S":
            statement = self.statements.get(target.name)
            if statement is None:
                raise PgError("26000")
            shown: bytes = frames.parameter_description(*self._parameters(statement))
            formats: tuple[int, ...] = (0,) * len(statement.columns)
        else:
            portal = self.portals.get(target.name)
            if portal is None:
                raise PgError("34000")
            statement, shown, formats = portal.statement, b"", portal.formats
        if not statement.columns:
            return shown + frames.NO_DATA
        self._live(statement)
        return shown + self._described(statement, formats)

    def _described(self, statement: Statement, formats: tuple[int, ...]) -> bytes:
        fields = [f._replace(format=code) for f, code in zip(statement.columns, formats, strict=True)]
        if self.physical:
            fields = [f._replace(type_oid=17) if f.name == b"ssn" else f for f in fields]
        return frames.row_description(*fields)

    def _execute(self, frame: bytes) -> bytes:
        name, limit = decode_execute(frame, 5, len(frame))
        portal = self.portals.get(name)
        if portal is None:
            raise PgError("34000")
        if not portal.statement.tag:
            return frames.EMPTY_QUERY_RESPONSE
        if self.failed and not (portal.planned and portal.statement.utility in EXIT):
            raise PgError("25P02")
        if portal.failed or (portal.done and not portal.statement.columns):
            raise PgError("55000")
        try:
            return self._run(portal, limit, "extended")
        except PgError:
            portal.failed = True
            raise

    def _close(self, frame: bytes) -> bytes:
        target = decode_target(frame, 5, len(frame))
        if target.kind == b"S":
            self.statements.pop(target.name, None)
        else:
            self.portals.pop(target.name, None)
        return frames.CLOSE_COMPLETE

    def _ends_in_ready(self, tag: str, frame: bytes) -> bytes:
        try:
            if tag == "Q":
                return self._query(decode_query(frame, 5, len(frame)).decode())
            replies = self._function_call(frame)
        except MalformedMessage:
            replies = self._fails(PgError("08P01"))
        except PgError as error:
            replies = self._fails(error)
        return replies + self._ready()

    def _function_call(self, frame: bytes) -> bytes:
        """Call ``lo_creat``; the proxy refuses any that is not for large objects."""
        if self.failed:
            raise PgError("25P02")
        if len(frame) < 9:
            raise PgError("08P01")
        if int.from_bytes(frame[5:9], "big") != LO_CREAT:
            raise PgError("0A000")
        return frames.FUNCTION_RESULT

    def _query(self, text: str) -> bytes:
        self.statements.pop(b"", None)
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not parts:
            return frames.EMPTY_QUERY_RESPONSE + self._ready()
        replies = b""
        running: Portal | None = None
        try:
            if any(known(part).syntax_error for part in parts):
                raise PgError("42601")
            # The proxy promises more than a server: one refused statement, and none of the string is executed.
            refused = self.fails or next((s for s in (known(part).parse_error for part in parts) if s in REFUSALS), "")
            if refused:
                self._live(known(parts[0]))
                raise PgError(refused)
            for part in parts:
                statement = self._analysed(part)
                self.portals.pop(b"", None)
                formats = (0,) * len(statement.columns)
                if statement.columns:
                    replies += self._described(statement, formats)
                running = Portal(statement, formats)
                replies += self._run(running, 0, "simple")
                running = None
                if self.copying:
                    return replies
        except PgError as error:
            replies += self._fails(error)
            self._leave(running)
        return replies + self._ready()

    def _leave(self, running: Portal | None) -> None:
        """Leave the unnamed portal of a simple query that failed while it ran."""
        if running is not None and self.block:
            running.failed = True
            self.portals[b""] = running

    # -- running ---------------------------------------------------------------------------------------------------------------

    def _run(self, portal: Portal, limit: int, protocol: str) -> bytes:
        statement = portal.statement
        portal.done = True
        if statement.utility:
            return self._utility(statement, protocol)
        if not statement.columns:
            return frames.command_complete(f"{statement.tag} {statement.rows}")
        stop = min(statement.rows, portal.position + limit) if limit else statement.rows
        rows = [self._row(statement, portal.formats, i) for i in range(portal.position, stop)]
        portal.position = stop
        broken = self.breaks_at - self.said - (protocol == "simple")
        if 0 <= broken < len(rows):
            raise PgError("57P03", b"".join(rows[:broken]))
        if statement.error and not (limit and len(rows) == limit):
            raise PgError(statement.error, b"".join(rows))
        if limit and len(rows) == limit:
            return b"".join(rows) + frames.PORTAL_SUSPENDED
        return b"".join(rows) + frames.command_complete(f"{statement.tag} {len(rows)}")

    def _row(self, statement: Statement, formats: tuple[int, ...], i: int) -> bytes:
        return frames.data_row(*(self._value(f, code, i) for f, code in zip(statement.columns, formats, strict=True)))

    def _value(self, column: Field, code: int, i: int) -> bytes | None:
        if column.name == b"ssn":
            if i == 1:
                return None
            if self.physical:
                return SEALED[i] if code else hexed(SEALED[i])
            return b"ssn-%d" % i
        return ("hex", "1", "app", "", "", "", *PATH)[i].encode() if column.name == b"unnest" else b"value-%d" % i

    def _utility(self, statement: Statement, protocol: str) -> bytes:
        tag, kind = statement.tag, statement.utility
        if kind == "begin":
            self.block = True
        elif kind in ("commit", "rollback"):
            tag = "ROLLBACK" if self.failed else tag
            self.block = self.failed = False
            self.saved = None
            self.portals.clear()
        elif kind in ("savepoint", "rollback to"):
            self._savepoint(kind)
        elif kind == "prepare":
            if b"q" in self.statements:
                raise PgError("42P05")
            self.statements[b"q"] = KNOWN["SELECT msg FROM log"]
        elif kind == "deallocate":
            if self.statements.pop(b"q", None) is None:
                raise PgError("26000")
        elif kind == "deallocate all":
            self.statements = {n: s for n, s in self.statements.items() if not n}
        elif kind == "copy out":
            rows = b"".join(frames.copy_data(b"value-%d\n" % i) for i in range(3))
            return frames.COPY_OUT + rows + frames.COPY_DONE + frames.command_complete(tag)
        elif kind == "copy in":
            self.copying, self.copied = protocol, 0
            return frames.COPY_IN
        return frames.command_complete(tag)

    def _savepoint(self, kind: str) -> None:
        if not self.block:
            raise PgError("25P01")
        if kind == "savepoint":
            self.saved = dict(self.portals)
            return
        if self.saved is None:
            raise PgError("3B001")
        self.failed = False
        self.portals = {name: portal for name, portal in self.portals.items() if self.saved.get(name) is portal}

    def _copying(self, tag: str, frame: bytes) -> bytes:
        if tag == "d":
            self.copied += frame.count(b"\n", 5)
        if tag in "dSH":
            return b""
        protocol, self.copying = self.copying, ""
        end = self._ready if protocol == "simple" else bytes
        if tag == "c":
            return frames.command_complete(f"COPY {self.copied}") + end()
        failed = self._fails(PgError("57014" if tag == "f" else "08P01"))
        if protocol == "simple":
            self._leave(Portal(KNOWN[COPY_FROM], ()))
        self.skipping = protocol == "extended"
        return failed + end()
