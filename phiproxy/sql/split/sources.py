"""Sources: SELECTs in the client's terms, of parts of its own text, and the trial whether the server answers one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from phiproxy.errors import NoIndexAnswers, PhiproxyError
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Answered, Occurrence, Outcome, Refused, SourceColumn, Span
from phiproxy.sql.split.branches import END, Conditions
from phiproxy.sql.split.clauses import Part
from phiproxy.sql.split.clock_constants import asks_clock
from phiproxy.sql.text.parse import Token, between, comments, parse, strings
from phiproxy.sql.values.operands import as_operand
from phiproxy.sql.values.uses import Nullness, Plain, Search, Use

Placed = tuple[int, int]
"""Where something starts and ends in a text, in bytes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source: ``label.name`` as the client calls it, or an expression of the client's.

    That is ``written``, or stands at ``span`` of the client's text, and is evaluated where the ``conditions`` of its branch hold;
    it has the other name in the rest.
    """

    label: str
    name: str
    type: SourceColumn
    written: bytes = b""
    span: tuple[int, int] | None = None
    conditions: Conditions = ()

    @property
    def sql(self) -> bytes:
        """The column in the source."""
        return self.written or f"{quote_ident(self.label, always=True)}.{quote_ident(self.name, always=True)}".encode()


@dataclass(slots=True)
class Source:
    """One SELECT. ``before`` and ``behind`` are spans of the client's text: queries of WITH, and what follows WHERE.

    ``span`` is that of its FROM; none where it has no FROM. ``parts`` are its conditions. Of the conditions of inner joins in FROM,
    ``movable``, some may be ``waiting``: for these the source has true.
    """

    span: tuple[int, int] | None
    columns: list[Column]
    parts: list[Part] = field(default_factory=list)
    movable: list[Part] = field(default_factory=list)
    waiting: list[Part] = field(default_factory=list)
    before: list[tuple[int, int]] = field(default_factory=list)
    behind: list[tuple[int, int]] = field(default_factory=list)
    locking: list[tuple[bytes, int]] = field(default_factory=list)
    """The words of its locking clauses, each with the byte of the client's text that an error about it points at, or -1."""
    recursive: bool = False
    flag: str = ""
    names: list[str] = field(default_factory=list)


class Written:
    """A text in which spans of the client's are copied, without comments; its parameters are numbered as they come."""

    def __init__(self, text: bytes, tokens: Sequence[Token]) -> None:
        self._text = text
        self._parameters = [token for token in tokens if token.name == "PARAM"]
        # What stands in one may meet something protected in the rest.
        self._comments = comments(text)
        self._pieces: list[bytes] = []
        self._length = 0
        self._copied: list[tuple[int, int, int]] = []
        self._parameter_at: set[int] = set()
        self.numbers: list[int] = []

    def add(self, piece: bytes) -> None:
        """Add something else."""
        self._pieces.append(piece)
        self._length += len(piece)

    def instead(self, piece: bytes, at: int) -> None:
        """Add something for what begins at a byte of the client's text; -1: for nothing there."""
        if at >= 0:
            self._copied.append((at, at + 1, self._length))
        self.add(piece)

    def copy(self, start: int, end: int) -> tuple[int, int]:
        """Add a span of the client's text; return where it is now."""
        first, at = self._length, start

        def piece(begin: int, end: int) -> None:
            for comment in between(self._comments, begin, end):
                self._copied.append((begin, comment.start, self._length))
                self.add(self._text[begin : comment.start] + b" ")
                begin = comment.end
            self._copied.append((begin, end, self._length))
            self.add(self._text[begin:end])

        for token in self._parameters:
            if start <= token.start < end:
                number = int(self._text[token.start + 1 : token.end])
                if number not in self.numbers:
                    self.numbers.append(number)
                piece(at, token.start)
                self._parameter_at.add(token.start)
                self._copied.append((token.start, token.end, self._length))
                self.add(b"$%d" % (self.numbers.index(number) + 1))
                at = token.end
        piece(at, end)
        return first, self._length

    def copy_part(self, part: Part) -> tuple[int, int]:
        """Add a condition, or a weaker one."""
        if part.weaker is None:
            return self.copy(part.start, part.end)
        start, end, instead = part.weaker
        first, _ = self.copy(part.start, start)
        self._copied.append((start, start + 1, self._length))
        self._parameter_at.add(start)  # which stands here no longer as it was
        self.add(instead)
        return first, self.copy(end, part.end)[1]

    def place(self, offset: int) -> int:
        """Return where an offset of the client's text is now, where it was copied; -1 elsewhere."""
        return next((now + offset - begin for begin, end, now in self._copied if begin <= offset < end), -1)

    def holds(self, part: Part, offset: int) -> bool:
        """Tell whether an offset of this text is in a condition that was copied."""
        start = self.place(part.start)
        return 0 <= start <= offset <= self.place(part.end - 1)

    def spans(self) -> tuple[Span, ...]:
        """Return what was copied as it was: of a parameter the number may be another."""
        copied = ((now, now + end - begin, begin) for begin, end, now in self._copied if begin not in self._parameter_at)
        return tuple(span for span in copied if span[1] > span[0])

    def result(self) -> bytes:
        """Return the text."""
        return b"".join(self._pieces)


def write(written: Written, source: Source, *, named: bool = False, kept: Sequence[Placed] = ()) -> list[Placed]:
    """Write a source; return where its conditions are. ``named``: its columns are c1, c2 … as its ``names`` say.

    ``kept``: the spans of queries of WITH that stand before it, writes among them.

    SELECT p.id, p.full_name FROM patients p WHERE p.city = 'Springfield'
    """
    _before(written, [*kept, *source.before], recursive=source.recursive)
    written.add(b"SELECT ")
    flags = [b"true AS " + source.flag.encode() if named else b"true"] * bool(source.flag)
    written.add(b", ".join(flags))
    for number, (column, name) in enumerate(zip(source.columns, source.names, strict=True)):
        written.add(b", " if number or flags else b"")
        if column.span is not None:
            for condition in column.conditions:
                written.add(condition.before)
                if condition.span is not None:
                    written.copy(*condition.span)
                written.add(condition.behind)
            written.copy(*column.span)
            written.add(END * len(column.conditions))
        else:
            written.add(column.sql)
        written.add(b" AS " + name.encode() if named else b"")
    if source.span is not None:
        written.add(b" FROM " if flags or source.columns else b"FROM ")
        at = source.span[0]
        for part in sorted(source.waiting):
            written.copy(at, part.start)
            written.add(b"true")
            at = part.end
        written.copy(at, source.span[1])
    places = []
    for i, part in enumerate(source.parts):
        # The OR of a clause that is nothing else stands beside other conditions here.
        either = part.nodes[0].get("BoolExpr", {}).get("boolop") == "OR_EXPR"
        written.add((b" AND " if i else b" WHERE ") + b"(" * either)
        places.append(written.copy_part(part))
        written.add(b")" * either)
    for span in source.behind:
        written.add(b" ")
        written.copy(*span)
    for words, at in source.locking:
        written.add(b" ")
        written.instead(words, at)
    return places


def _before(written: Written, queries: Sequence[Placed], *, recursive: bool) -> None:
    """Write WITH and its queries, where there are some."""
    for i, span in enumerate(queries):
        written.add(b", " if i else b"WITH RECURSIVE " if recursive else b"WITH ")
        written.copy(*span)
    written.add(b" " if queries else b"")


def together(written: Written, sources: Sequence[Source], kept: Sequence[Placed] = ()) -> None:
    """Write all sources as one statement, so that they are of one snapshot: each row is of one of them, whose flag is true there.

    ``kept``: the spans of queries of WITH that stand before all, since writes may stand nowhere else.

    SELECT c1, c2, c3, c4 FROM (SELECT true AS c1, p.id AS c2 FROM patients p) AS t1
      FULL JOIN (SELECT true AS c3, v.mrn AS c4 FROM visits v) AS t2 ON false
    """
    if len(sources) == 1:
        write(written, sources[0], kept=kept)
        return
    _before(written, kept, recursive=False)
    names = [name for source in sources for name in (*[source.flag][: bool(source.flag)], *source.names)]
    written.add(f"SELECT {', '.join(names)} FROM ".encode())
    for number, source in enumerate(sources, start=1):
        written.add(b" FULL JOIN (" if number > 1 else b"(")
        write(written, source, named=True)
        written.add(b") AS t%d%s" % (number, b" ON false" if number > 1 else b""))


class Trials:
    """Asks the analysis whether the server answers a source, with the queries of WITH before it that are ``kept``.

    ``stored``: without a value of a protected column in it.
    """

    def __init__(self, a: Analysis, tokens: Sequence[Token], kept: Sequence[Placed] = (), *, stored: bool = False) -> None:
        self._a = a
        self._kept = kept
        self._tokens = tokens
        self._stored = stored
        self._outcomes: dict[tuple[bytes, tuple[int, ...]], Outcome] = {}

    def accepted(self, source: Source) -> Answered | None:
        """Drop the conditions of a source that the server cannot decide; None where it cannot answer the source without them.

        A refusal points at the condition; so there is one analysis more than conditions that are refused.
        """
        while True:
            outcome, places, written = self._analysed(source)
            if isinstance(outcome, Answered):
                open_ends = [o.start for o in outcome.occurrences if self._is_open(o)]
                if not open_ends:
                    return outcome
                kept = [
                    part
                    for part, (start, end) in zip(source.parts, places, strict=True)
                    if not any(start <= at < end for at in open_ends)
                ]
                moved = [part for part in source.movable if any(written.holds(part, at) for at in open_ends)]
                if len(kept) == len(source.parts) and not moved:
                    return None
                source.parts = kept
                source.waiting += moved
                continue
            position = outcome.error.position
            at = next((i for i, (start, end) in enumerate(places) if position is not None and start < position <= end), None)
            in_from = self._in_from(source, position) if at is None and position is not None else None
            if in_from is not None:
                source.waiting.append(in_from)
                continue
            if at is None and not source.parts:
                return None
            if at is not None:
                weaker = self._weaker(source.parts[at], outcome.error)
                source.parts[at : at + 1] = [] if weaker is None else [weaker]
                continue
            source.parts = self._one_by_one(source)
            return self.alone(source)

    def _is_open(self, occurrence: Occurrence) -> bool:
        if self._stored and not occurrence.null:
            return True
        return bool(occurrence.numbers and depends_on_value(occurrence.use)) or asks_clock(occurrence)

    def _weaker(self, part: Part, refusal: PhiproxyError) -> Part | None:
        """Return a condition that the server can decide and that is true wherever a refused one is; None where none is known.

        SELECT id FROM charts WHERE doc @> '{"age": 40, "tags": ["x"]}'
        → source: SELECT charts.id, charts.doc FROM charts WHERE doc @> …
        """
        instead = refusal.weaker if isinstance(refusal, NoIndexAnswers) else None
        (node, *others) = part.nodes
        condition = node.get("A_Expr", {})
        if instead is None or others or part.weaker is not None or b"\\" in instead or strings(condition.get("name")) != ["@>"]:
            return None
        operand = as_operand(condition["rexpr"])
        token = next((t for t in self._tokens if operand is not None and t.start == operand.offset), None)
        if token is None or token.name != "SCONST":
            return None
        return dataclasses.replace(part, weaker=(token.start, token.end, b"'" + instead.replace(b"'", b"''") + b"'"))

    def shared(self, source: Source, offsets: Collection[int]) -> list[Part]:
        """Return the conditions that hold in clear what stands at one of these offsets of the client's text."""
        outcome, _, written = self._analysed(source)
        if not isinstance(outcome, Answered):
            return list(source.parts)
        sealed = [o for o in outcome.occurrences if not isinstance(o.use, Plain | Nullness)]
        clear = [at for at in offsets if not any(o.start <= written.place(at) < o.end for o in sealed)]
        return [part for part in source.parts if any(part.start <= at < part.end for at in clear)]

    def _in_from(self, source: Source, position: int) -> Part | None:
        """Return the condition of an inner join at which a refusal points."""
        _, _, written = self._analysed(source)
        offset = len(written.result().decode()[: position - 1].encode())
        return next((part for part in source.movable if written.holds(part, offset)), None)

    def _one_by_one(self, source: Source) -> list[Part]:
        return [part for part in source.parts if self.alone(dataclasses.replace(source, parts=[part])) is not None]

    def alone(self, source: Source) -> Answered | None:
        """Return the answer to a source as it is, or None."""
        outcome, _, _ = self._analysed(source)
        return outcome if isinstance(outcome, Answered) else None

    def _analysed(self, source: Source) -> tuple[Answered | Refused, list[Placed], Written]:
        written = Written(self._a.text, self._tokens)
        trial = dataclasses.replace(source, names=[""] * len(source.columns))
        places = write(written, trial, kept=self._kept)
        text = written.result()
        context = self._a.context
        declared = tuple(context.declared[n - 1] if n <= len(context.declared) else 0 for n in written.numbers)
        outcome = self._outcomes.get((text, declared))
        if outcome is None:
            (statement,) = parse(text)
            outcome = analyse(statement, text, dataclasses.replace(context, declared=declared, inside=None, of_source=True))
            self._outcomes[text, declared] = outcome
        assert isinstance(outcome, Answered | Refused)
        if isinstance(outcome, Refused):  # whose position is in characters
            places = [(len(text[:start].decode()), len(text[:end].decode())) for start, end in places]
        return outcome, places, written


def depends_on_value(use: Use) -> bool:
    """Tell whether it is the value of a parameter that says whether tags answer: a pattern, or a bound of a range."""
    return isinstance(use, Search) and (use.chosen is not None or use.range is not None or use.perhaps)
