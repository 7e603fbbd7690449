"""What is said about one rest over one connection to the engine: sans-I/O, bytes in and bytes out.

``Said`` is what the connection remembers: its settings, the tables that it keeps, the statements that it has prepared. A ``Run`` is
one execution::

    few rows     [SET …] [Parse] Bind(arrays) Describe Execute Sync
    many         [SET …] [CREATE TEMPORARY TABLE …] Parse Bind Execute(COPY) CopyData … CopyDone [Parse] Bind Describe Execute Sync

All of it is sent without waiting; the rest and its COPY are one implicit transaction, at whose end the table is empty again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from struct import pack

from phiproxy.engine.failures import EngineDisagrees, failure
from phiproxy.engine.rest import Rest, Values, set_statements
from phiproxy.engine.rows_into_engine import (
    COPY_BEGIN,
    COPY_END,
    FEW_BYTES,
    FEW_ROWS,
    ColumnType,
    Counted,
    Source,
    arrays,
    copied,
    spans,
    table_of,
    unnested,
)
from phiproxy.errors import PhiproxyError, StatementFailed
from phiproxy.wire.fields import Bind, encode_bind, expand_formats
from phiproxy.wire.framing import MAX_STREAMED, FrameBuffer
from phiproxy.wire.messages import (
    SYNC,
    decode_error_fields,
    decode_parameter_description,
    encode_parameter_description,
    encode_parse,
    encode_query,
    message,
)

FLUSH = message(b"H", b"")
# A connection that keeps more is closed after its run: each commit empties all tables of a session.
MOST_TABLES = 12
MOST_STATEMENTS = 200
_ROW, _NOTICE = ord("D"), ord("N")
# PortalSuspended, CommandComplete, EmptyQueryResponse: what an Execute ends with.
_ENDS = frozenset(b"sCI")
_RESULTS = frozenset(b"TnDCIsNHdc")
_DESCRIBE_PORTAL = message(b"D", b"P\0")
_POSITION = ord("P")


# A statement was parsed under the settings of its session: a date in it is no longer a text. Its source is a table, or arrays ("").
_Key = tuple[Rest, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A statement that a connection holds, and the notices that its Parse was answered with."""

    name: bytes
    notices: bytes


@dataclass(slots=True)
class Said:
    """What one connection has been told, and holds."""

    settings: dict[str, str] = field(default_factory=dict)
    tables: dict[Source, str] = field(default_factory=dict)
    statements: dict[_Key, Kept] = field(default_factory=dict)
    numbered: int = 0

    @property
    def worn(self) -> bool:
        """Tell whether it holds so much that another connection is better."""
        return len(self.tables) > MOST_TABLES or len(self.statements) > MOST_STATEMENTS


class _Stage(Enum):
    """What a ReadyForQuery ends."""

    SETTINGS = auto()
    TABLE = auto()
    BEGUN = auto()
    REST = auto()
    PORTAL = auto()
    CLEANING = auto()


class Run:
    """One execution of a rest, or its description. The methods that return bytes return what is to be sent to the engine.

    ``feed`` takes what the engine sends, and returns what of it is the client's: RowDescription or NoData, DataRow,
    CommandComplete, PortalSuspended, notices; ParameterDescription where the rest is described. ``failed`` is why there will be
    no more; ``suspended``: the portal is still open, and says nothing until ``more`` or ``end``; ``done``: the connection is free
    for another.
    """

    def __init__(self, said: Said, rest: Rest, types: Sequence[ColumnType], counted: Counted) -> None:
        self.failed: PhiproxyError | None = None
        self.suspended = False
        self._said = said
        self._rest = rest
        self._types = types
        self._counted = counted
        self._frames = FrameBuffer(MAX_STREAMED)
        self._stages: deque[_Stage] = deque()
        self._held: list[bytes] | None = []
        self._copying = self._skipping = self._open = self._executed = self._described = False
        self._pending: tuple[_Key, bytes] | None = None
        self._notices = b""  # of a Parse: a connection that holds the statement gives them once, PostgreSQL at each
        self._source = b""
        self._settings: dict[str, str] = {}
        self._changed: dict[str, str] | None = None  # those that its open transaction has since
        self._changes: list[bytes] = []  # the statements that make them so, which are not sent yet
        self._changing = 0  # how many of them are not answered yet

    @property
    def counted(self) -> int:
        """How many rows it was given."""
        return self._counted.rows

    @property
    def held(self) -> bool:
        """Tell whether its transaction stays open for other statements."""
        return self._rest.held

    @property
    def _in_rest(self) -> bool:
        return bool(self._stages) and self._stages[0] is _Stage.REST

    @property
    def done(self) -> bool:
        """Tell whether the engine has answered all that was sent."""
        return not self._stages

    def begin(self, settings: Mapping[str, str]) -> bytes:
        """Have the session's settings be these; of an open transaction from what it is asked next on, as values are shown then."""
        if self._executed:
            before = self._settings if self._changed is None else self._changed
            self._changed = dict(settings)
            self._changes = [change.replace(b"SET ", b"SET LOCAL ", 1) for change in set_statements(before, self._changed)]
            return b""
        self._settings = dict(sorted(settings.items()))
        changes = set_statements(self._said.settings, self._settings)
        if not changes:
            return b""
        self._stages.append(_Stage.SETTINGS)
        return encode_query(b"; ".join(changes))

    def rows(self, data: bytes) -> bytes:
        """Take DataRow messages of the source; LimitExceeded where they are too many, WireError where they are something else."""
        columns = len(self._rest.source)
        if self._held is None:
            out, count = copied(data)
            self._counted.add(count, len(data))
            return out
        self._counted.add(sum(1 for _ in spans(data, columns)), len(data))
        self._held.append(data)
        if not columns or (self._counted.rows <= FEW_ROWS and self._counted.bytes <= FEW_BYTES):
            return b""
        return self._copy()

    def execute(self, values: Values, limit: int = 0) -> bytes:
        """Run the rest, all rows of its source having been given; with a ``limit`` of rows its portal stays open until ``end``."""
        self._open, self._executed = limit > 0, True
        rest, out, given = self._rest, [], list(values.values)
        self._described = values.described
        formats = expand_formats(tuple(values.formats), len(given))
        if len(rest.parts) == 1:
            out.append(self._begun())
            self._named("")
        elif self._held is not None and all(t.array for t in self._types) and not rest.stands:
            columns = arrays(self._held, rest.source)
            given += columns
            formats += (1,) * len(columns)
            self._named("")
        else:
            if self._held is not None:
                out.append(self._copy())
            out.append(COPY_END)
            self._copying = False
            self._named(self._said.tables[rest.source])
        name, parse = self._prepared()
        bind = encode_bind(Bind(b"", name, formats, given, tuple(values.result_formats)))
        out += [parse, self._explained(given, formats), bind, _DESCRIBE_PORTAL, _execute(limit), FLUSH if limit else SYNC]
        if not self._stages or self._stages[-1] is not _Stage.REST:
            self._stages.append(_Stage.REST)
        return b"".join(out)

    def _explained(self, given: list[bytes | None], formats: tuple[int, ...]) -> bytes:
        """Return what runs an EXPLAIN of the rest, where that is wanted; what is wrong with the rest is said of itself, before."""
        rest = self._rest
        if not rest.explained:
            return b""
        parse = encode_parse(b"", rest.explained + rest.text(self._source), rest.oids)
        return b"".join((parse, encode_bind(Bind(b"", b"", formats, given, ())), _execute(0)))

    def more(self, limit: int) -> bytes:
        """Go on with a suspended portal."""
        self.suspended = False
        return self._set() + _execute(limit) + FLUSH

    def _set(self) -> bytes:
        """Return what changes the settings of the open transaction; a simple Query would drop its portal, or end it."""
        changes, self._changes, self._changing = self._changes, [], len(self._changes)
        portal = b"phi_set"
        closes, bind = message(b"C", b"P" + portal + b"\0"), encode_bind(Bind(portal, b"", (), [], ()))
        return b"".join(part for text in changes for part in (encode_parse(b"", text), bind, _execute(0, portal), closes))

    def also(self, text: bytes, formats: Sequence[int], portal: bytes = b"", limit: int = 0) -> bytes:
        """Run another statement in the transaction of a rest that is ``held``; an empty one goes on with what is in the portal."""
        self._stages.append(_Stage.REST)
        changes = self._set()
        if not text:
            return changes + _execute(limit, portal) + SYNC
        named = b"P" + portal + b"\0"
        bind = encode_bind(Bind(portal, b"", (), [], tuple(formats)))
        parts = message(b"C", named), encode_parse(b"", text), bind, message(b"D", named), _execute(limit, portal), SYNC
        return changes + b"".join(parts)

    def end(self) -> bytes:
        """End the transaction of a portal that was executed with a limit, or of a rest that is ``held``."""
        if self._rest.held:
            self._stages.append(_Stage.CLEANING)
            return encode_query(b"ROLLBACK")
        return SYNC

    def describe(self) -> bytes:
        """Describe the rest before any row of its source is there, and a portal of it where it has no parameters.

        The planner of a portal may fold an expression, and know more of it:
        CASE WHEN NULL::int < id THEN city ELSE note::varchar(3) END
        """
        out = []
        if len(self._rest.parts) == 1 or all(t.array for t in self._types):
            self._named("")
        else:
            out.append(self._table())
            self._named(self._said.tables[self._rest.source])
        name, parse = self._prepared()
        self._stages.append(_Stage.REST)
        out += [parse, message(b"D", b"S" + name + b"\0"), SYNC]
        if not self._rest.parameters:
            given: Sequence[bytes] = arrays([], self._rest.source) if self._source.startswith(b"(") else []
            out += [encode_bind(Bind(b"", name, (1,) * len(given), list(given), ())), _DESCRIBE_PORTAL, SYNC]
            self._stages.append(_Stage.PORTAL)
        return b"".join(out)

    def give_up(self) -> bytes:
        """End a COPY that has begun, since there will be no more rows."""
        if not self._copying:
            return b""
        self._copying = False
        return message(b"f", b"\0") + SYNC

    def clean(self) -> bytes:
        """Empty the table of a run that failed: what was copied into it is of no transaction, but it is still there."""
        table = self._said.tables.get(self._rest.source)
        if self._held is not None or table is None:
            return b""
        self._stages.append(_Stage.CLEANING)
        return encode_query(f"START TRANSACTION READ WRITE; TRUNCATE {table}; COMMIT".encode())

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what the engine sends; returns messages for the client, put together where they follow one another."""
        frames, out = self._frames, _Pieces()
        frames.feed(chunk)
        while (frame := frames.next()) is not None:
            tag, start, end = frame
            if tag in _RESULTS and self._shows(tag):
                if tag == _ROW:
                    end = frames.run_end(_ROW)
                out.add(frames.data, start, end)
            elif (other := self._other(tag, frames.data, start + 5, end)) is not None:
                out.add(other, 0, len(other))
            frames.advance(end)
        return out.all()

    def _shows(self, tag: int) -> bool:
        """Tell whether a message is of the rest's result."""
        if tag == _NOTICE and self._pending is not None:
            return False
        if self._stages and self._stages[0] is _Stage.PORTAL:
            return self.failed is None and tag == ord("T")
        if self._changing:
            self._changing -= tag == ord("C")
            return False
        if self._skipping or self.failed is not None or not self._in_rest:
            if tag == ord("C") and self._in_rest:
                self._skipping = False  # that was the COPY
            return False
        self.suspended = self.suspended or (self._open and tag in _ENDS)
        return True

    def _other(self, tag: int, data: bytes, pos: int, end: int) -> bytes | None:
        if tag == ord("E") and self._stages and self._stages[0] is _Stage.PORTAL:
            return None  # what the planner says is said when it is executed
        if tag == ord("E"):
            self._fail(decode_error_fields(data, pos, end))
        elif tag == ord("1") and not self._skipping and self._pending is not None and self.failed is None:
            key, name = self._pending
            self._said.statements[key], self._pending = Kept(name, self._notices), None
        elif tag == _NOTICE and not self._skipping and self._pending is not None and self._in_rest:
            self._notices += data[pos - 5 : end]
        elif tag == ord("2") and not self._skipping and self._in_rest:
            return self._of_parse()
        elif tag == ord("t"):
            oids = decode_parameter_description(data, pos, end)
            return self._of_parse() + encode_parameter_description(oids[: self._rest.parameters])
        elif tag == ord("Z"):
            stage = self._stages.popleft()
            if stage is _Stage.SETTINGS and self.failed is None:
                self._said.settings = self._settings
            elif stage is _Stage.REST:
                self.suspended = self._skipping = False
        return None

    def _of_parse(self) -> bytes:
        """Return the notices of a Parse, for a client that has not been told them."""
        notices, self._notices = self._notices, b""
        return b"" if self._described else notices

    def _fail(self, fields: list[tuple[int, bytes]]) -> None:
        if self.failed is not None:
            return
        stage = self._stages[0] if self._stages else None
        position = None
        if stage is _Stage.REST and not self._skipping:
            written = dict(fields).get(_POSITION)
            position = self._rest.position(int(written), self._source) if written is not None else None
        failed = failure(fields, position)
        if isinstance(failed, StatementFailed) and (stage is not _Stage.REST or self._skipping or self._changing):
            # Not the client's statement has failed, but what was to be around it; its own words may have a value in them.
            what = {_Stage.SETTINGS: "the session's settings", _Stage.TABLE: "a table"}.get(stage or _Stage.REST, "the rows")
            what = "the session's settings" if self._changing else what
            failed = EngineDisagrees(f"the engine did not take {what} ({failed.state})")
        if isinstance(failed, StatementFailed):
            failed.notices = self._of_parse()
        self.failed = failed

    def _named(self, table: str) -> None:
        """Write the source as a table, or as arrays where that is empty."""
        rest = self._rest
        self._source = table.encode() if table else b""
        if not table and len(rest.parts) > 1:
            self._source = unnested(rest.source, self._types, rest.parameters + 1)

    def _prepared(self) -> tuple[bytes, bytes]:
        """Return the name of the statement, and the Parse that it still needs."""
        said, table = self._said, "" if self._source.startswith(b"(") else self._source.decode()
        key = self._rest, table, tuple(self._settings.items())
        kept = said.statements.get(key)
        if kept is not None:
            self._notices = kept.notices
            return kept.name, b""
        said.numbered += 1
        name = b"s%d" % said.numbered
        self._pending = key, name
        return name, encode_parse(name, self._rest.text(self._source), self._rest.oids)

    def _table(self) -> bytes:
        """Return what makes the table of the source, where the connection has none yet."""
        said, source = self._said, self._rest.source
        if source in said.tables:
            return b""
        said.numbered += 1
        said.tables[source] = table = f"pg_temp.phi_{said.numbered}"
        self._stages.append(_Stage.TABLE)
        return encode_query(table_of(table, source, self._types))

    def _begun(self) -> bytes:
        """Return what begins the transaction of a rest that is ``held``."""
        if not self._rest.held:
            return b""
        self._stages.append(_Stage.BEGUN)
        return encode_query(b"START TRANSACTION READ WRITE")

    def _copy(self) -> bytes:
        """Begin the COPY with the rows that were held."""
        assert self._held is not None
        held, self._held = self._held, None
        creation = self._table()
        creation += self._begun()
        table = self._said.tables[self._rest.source]
        self._stages.append(_Stage.REST)
        self._copying = self._skipping = True
        copy = encode_parse(b"", f"COPY {table} FROM STDIN (FORMAT binary)".encode())
        bind = encode_bind(Bind(b"", b"", (), [], ()))
        rows = (copied(data)[0] for data in held)
        return b"".join((creation, copy, bind, _execute(0), COPY_BEGIN, *rows))


def _execute(limit: int, portal: bytes = b"") -> bytes:
    return message(b"E", portal + b"\0" + pack("!I", limit))


class _Pieces:
    """Spans of buffers, those that follow one another as one piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._data, self._from, self._to = b"", 0, 0

    def add(self, data: bytes, start: int, end: int) -> None:
        """Add a span."""
        if data is not self._data or start != self._to:
            self._cut()
            self._data, self._from = data, start
        self._to = end

    def all(self) -> list[bytes]:
        """Return the pieces."""
        self._cut()
        return self._pieces

    def _cut(self) -> None:
        if self._to > self._from:
            self._pieces.append(self._data[self._from : self._to])
        self._data, self._from, self._to = b"", 0, 0
