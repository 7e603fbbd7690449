"""A small PostgreSQL: the extended protocol's rules (manual 55.2.3, postgres.c) over a dozen statements, and no data.

``Server(physical=False)`` answers as a server with a plaintext table would answer the client directly; ``Server(physical=True)`` as
the one behind the proxy, whose table holds envelopes. A dialogue through the proxy must look like one with the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

from phiproxy.plan.cache import View
from phiproxy.wire.fields import decode_bind, expand_formats
from phiproxy.wire.messages import Field, decode_execute, decode_parse, decode_query, decode_target
from tests.clinic_model import PATH
from tests.session import frames
from tests.session.screenplay import PLANNER, SECRET, SSN, envelope, hexed


class PgError(Exception):
    """An ErrorResponse."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True)
class Statement:
    """``columns`` are RowDescription's as a plaintext table has them; ``parse_error`` strikes in the analysis."""

    tag: str
    columns: tuple[Field, ...] = ()
    rows: int = 0
    parameters: tuple[int, ...] = ()
    physical_parameters: tuple[int, ...] = ()
    syntax_error: bool = False
    parse_error: str = ""
    error: str = ""
    utility: str = ""


SSN_FIELD = frames.column("ssn", 25, table=100, attnum=2)
CITY = frames.column("city", 25, table=100, attnum=6)
MSG = frames.column("msg", 25, table=102, attnum=2)
NAME = frames.column("unnest", 19)

STATEMENTS: dict[str, Statement] = {
    "": Statement(""),
    "SELECT ssn, city FROM public.patients": Statement("SELECT", (SSN_FIELD, CITY), 3),
    "SELECT city, ssn FROM public.patients WHERE ssn = $1": Statement("SELECT", (CITY, SSN_FIELD), 2, (25,), (17,)),
    "SELECT city FROM public.patients WHERE city = $1": Statement("SELECT", (CITY,), 2, (25,), (25,)),
    "INSERT INTO public.patients (city, ssn) VALUES ('x', $1)": Statement("INSERT 0", (), 1, (25,), (17,)),
    "INSERT INTO public.patients (city) VALUES ('x') RETURNING ssn": Statement("INSERT 0", (SSN_FIELD,), 1),
    "SELECT msg FROM log": Statement("SELECT", (MSG,), 3),
    "INSERT INTO log (msg) VALUES ($1)": Statement("INSERT 0", (), 1, (25,), (25,)),
    "SELECT boom()": Statement("SELECT", (MSG,), error="22012"),
    "SELECT nope": Statement("SELECT", parse_error="42703"),
    "SELEC 1": Statement("", syntax_error=True),
    "SELEC ssn FROM patients": Statement("", syntax_error=True),
    f"SELECT id FROM public.patients WHERE upper(ssn) = '{SECRET.decode()}'": Statement("", parse_error="0A000"),
    "SELECT pg_catalog.phiproxy_refused()": Statement("", parse_error="42883"),
    "phiproxy_refused": Statement("", syntax_error=True),
    "BEGIN": Statement("BEGIN", utility="begin"),
    "COMMIT": Statement("COMMIT", utility="commit"),
    "ROLLBACK": Statement("ROLLBACK", utility="rollback"),
    "SAVEPOINT a": Statement("SAVEPOINT", utility="savepoint"),
    "ROLLBACK TO a": Statement("ROLLBACK", utility="rollback to"),
    "PREPARE q AS SELECT msg FROM log": Statement("PREPARE", utility="prepare"),
    "DEALLOCATE q": Statement("DEALLOCATE", utility="deallocate"),
    "DEALLOCATE ALL": Statement("DEALLOCATE ALL", utility="deallocate all"),
    "SET search_path TO public": Statement("SET", utility="set"),
    "SELECT city, ssn FROM patients": Statement("SELECT", (CITY, SSN_FIELD), 2),
    "COPY log FROM STDIN": Statement("COPY", utility="copy"),
    "SELECT pg_catalog.unnest(pg_catalog.current_schemas(true))": Statement("SELECT", (NAME,), len(PATH)),
}
EXIT = ("commit", "rollback", "rollback to")
SEALED = [envelope(SSN, b"ssn-%d" % i) for i in range(3)]


def _known() -> dict[str, Statement]:
    """Return the statements by the client's text and by the proxy's rewrite of it."""
    found = dict(STATEMENTS)
    for text, statement in STATEMENTS.items():
        if not (statement.parse_error or statement.syntax_error):
            plan = PLANNER.statement(text.encode(), (), View(PATH, "clinic"))
            found[plan.sql.decode()] = statement
    return found


KNOWN = _known()


@dataclass
class Portal:
    """A portal and how far it was read."""

    statement: Statement
    formats: tuple[int, ...]
    position: int = 0
    done: bool = False


class Server:
    """One backend. ``receive`` takes one message and returns the replies."""

    def __init__(self, *, physical: bool) -> None:
        self.physical = physical
        self.statements: dict[bytes, Statement] = {}
        self.portals: dict[bytes, Portal] = {}
        self.saved: dict[bytes, Portal] | None = None
        self.block = self.failed = self.skipping = False
        self.copying: str = ""
        self._pending = b""

    def receive_bytes(self, data: bytes) -> bytes:
        """Take any chunk."""
        self._pending += data
        replies = []
        while len(self._pending) >= 5 and len(self._pending) >= (end := 1 + unpack_from("!I", self._pending, 1)[0]):
            frame, self._pending = self._pending[:end], self._pending[end:]
            replies.append(self.receive(frame))
        return b"".join(replies)

    def receive(self, frame: bytes) -> bytes:
        """Take one message."""
        tag = chr(frame[0])
        if self.copying:
            return self._copying(tag, frame)
        if tag == "S":
            return self._sync()
        if self.skipping or tag in "dcfHX":
            return b""
        if tag == "Q":
            return self._query(decode_query(frame, 5, len(frame)).decode())
        try:
            return {"P": self._parse, "B": self._bind, "D": self._describe, "E": self._execute, "C": self._close}[tag](frame)
        except PgError as error:
            self.skipping = True
            return self._fails(error)

    # -- the messages ----------------------------------------------------------------------------------------------------------

    def _fails(self, error: PgError) -> bytes:
        if self.block:
            self.failed = True
        else:
            self.portals.clear()
        return frames.error(error.state)

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
        statement = KNOWN[text]
        if statement.syntax_error:
            raise PgError("42601")
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
        self._live(portal.statement)
        if portal.done and not portal.statement.columns:
            raise PgError("55000")
        return self._run(portal, limit, "extended")

    def _close(self, frame: bytes) -> bytes:
        target = decode_target(frame, 5, len(frame))
        if target.kind == b"S":
            self.statements.pop(target.name, None)
        else:
            self.portals.pop(target.name, None)
        return frames.CLOSE_COMPLETE

    def _query(self, text: str) -> bytes:
        self.statements.pop(b"", None)
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if not parts:
            return frames.EMPTY_QUERY_RESPONSE + self._ready()
        replies = b""
        try:
            if any(KNOWN[part].syntax_error for part in parts):
                raise PgError("42601")
            for part in parts:
                # The proxy promises more than a server: one refused statement, and none of the string is executed.
                if KNOWN[part].parse_error == "0A000":
                    self._live(KNOWN[part])
                    raise PgError("0A000")
            for part in parts:
                statement = self._analysed(part)
                self.portals.pop(b"", None)
                formats = (0,) * len(statement.columns)
                if statement.columns:
                    replies += self._described(statement, formats)
                replies += self._run(Portal(statement, formats), 0, "simple")
                if self.copying:
                    return replies
        except PgError as error:
            replies += self._fails(error)
        return replies + self._ready()

    # -- running ---------------------------------------------------------------------------------------------------------------

    def _run(self, portal: Portal, limit: int, protocol: str) -> bytes:
        statement = portal.statement
        portal.done = True
        if statement.error:
            raise PgError(statement.error)
        if statement.utility:
            return self._utility(statement, protocol)
        if not statement.columns:
            return frames.command_complete(f"{statement.tag} {statement.rows}")
        stop = min(statement.rows, portal.position + limit) if limit else statement.rows
        rows = [self._row(statement, portal.formats, i) for i in range(portal.position, stop)]
        portal.position = stop
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
        return PATH[i].encode() if column.name == b"unnest" else b"value-%d" % i

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
        elif kind == "copy":
            self.copying = protocol
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

    def _copying(self, tag: str, _frame: bytes) -> bytes:
        if tag in "dSH":
            return b""
        protocol, self.copying = self.copying, ""
        end = self._ready if protocol == "simple" else bytes
        if tag == "c":
            return frames.command_complete("COPY 1") + end()
        failed = self._fails(PgError("57014" if tag == "f" else "08P01"))
        self.skipping = protocol == "extended"
        return failed + end()
