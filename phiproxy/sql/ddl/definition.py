"""What becomes of one DDL statement: edits of the client's text, and statements that are run with it, all or nothing.

Where one statement becomes several they go as one DO block, so that both protocols see one statement; ``Effects.tag`` is what the
client is told was done.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from phiproxy.errors import StatementRefused
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.finish import blanked_comments, marker
from phiproxy.sql.meaning import COUNT_STATE, Define, Edit, Occurrence, Store
from phiproxy.sql.operands import OWN, given
from phiproxy.sql.parse import Node, Token, location, messages, parse
from phiproxy.sql.render import Rendered, verify
from phiproxy.sql.sinks import SinkNode
from phiproxy.sql.taint import check_definition

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Empty:
    """Rows of a table that must not be there, and why; ``secured``: row-level security may hide them from its owner."""

    table: str
    why: str
    condition: str = ""
    secured: bool = False

    def check(self, quote: str) -> str:
        """Return statements of a DO block that fail where there are such rows; ``quote`` is a dollar quote that none of them holds.

        Nobody may add one before the client's statement, which takes the same lock. Only FORCE hides rows from who may ALTER.
        """
        said = self.why.replace("'", "''")
        where = f" WHERE {self.condition}" if self.condition else ""
        found = (
            f" IF EXISTS (SELECT FROM {self.table}{where}) THEN RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = '{said}',"
            " HINT = 'Use phiproxy encrypt for tables that hold rows, and NOT VALID for a constraint.'; END IF;"
        )
        locked = f" EXECUTE {quote}LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE{quote};"
        if not self.secured:
            return locked + found
        oid = f"pg_catalog.to_regclass({quote}{self.table}{quote})"
        forced = f"(SELECT relforcerowsecurity FROM pg_catalog.pg_class WHERE oid = {oid})"
        shown, hidden = (f"EXECUTE {quote}ALTER TABLE {self.table} {no}FORCE ROW LEVEL SECURITY{quote};" for no in ("NO ", ""))
        return (
            f"{locked} DECLARE phi_forced boolean := {forced}; BEGIN IF phi_forced THEN {shown} END IF;{found}"
            f" IF phi_forced THEN {hidden} END IF; END;"
        )


@dataclass(slots=True)
class Definition:
    """One statement on its way to physical form. ``body`` is edited to what the server will see of the client's own statement.

    ``before`` and ``after`` are statements around it, ``kept`` says that it is sent itself. ``once`` is an expression that says
    whether what IF NOT EXISTS speaks of is there: then nothing follows. ``empty`` are rows that must not be there. ``counted``: the
    client is told how many rows its statement has made. ``sealed`` are the texts that the server shall not see.
    """

    a: Analysis
    kind: str
    body: Node
    tag: str
    edits: list[Edit] = field(default_factory=list)
    occurrences: list[Occurrence] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    kept: bool = True
    once: str | None = None
    empty: list[Empty] = field(default_factory=list)
    counted: bool = False
    tokens: list[Token] = field(default_factory=list)
    sealed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        start, end = self.a.meaning.start, self.a.meaning.end
        self.tokens = [t for t in self.a.tokens() if start <= t.start < end]

    def replace(self, span: Span, text: str) -> None:
        """Let the server see another text in this place."""
        self.edits.append(Edit(*span, text.encode("utf-8")))

    def seal(self, span: Span, sink: SinkNode, column: ProtectedColumn) -> None:
        """Let the server see an envelope of a constant in this place."""
        try:
            use, _ = given(sink, Store(column, self.a.new_row()), OWN)
        except StatementRefused as refusal:
            refusal.position = self.a.at(sink.offset)
            raise
        self.occurrences.append(Occurrence(*span, use, literal=sink.literal))
        self.sealed.append(sink.literal)

    def define(self, span: Span, condition: bytes, column: ProtectedColumn, around: tuple[str, str]) -> None:
        """Let the server see the sealed condition of a constraint in this place, between two texts."""
        lead, trail = (text.encode("utf-8") for text in around)
        use = Define(column, self.a.new_row())
        self.occurrences.append(Occurrence(*span, use, literal=condition, lead=lead, trail=trail))

    def qualify(self, relation: Node, schema: str) -> None:
        """Write out the schema of a relation: what was analysed is what runs."""
        if "schemaname" not in relation:
            offset = location(relation)
            self.edits.append(Edit(offset, offset, quote_ident(schema).encode("utf-8") + b"."))
            relation["schemaname"] = schema

    def qualify_others(self, target: Node, made: tuple[str, str] | None = None) -> None:
        """Write out the schemas of protected relations that are named beside the target, which the statement makes as ``made``."""
        for relation in messages(self.body):
            if "relname" in relation and relation is not target and relation["relname"] in self.a.context.protection.table_names:
                own = made is not None and self.a.will_mean(relation, made)
                self.qualify(relation, made[0] if made is not None and own else self.a.target_relation(relation).schema)

    # -- where things stand ------------------------------------------------------------------------------------------------

    def name_end(self, relation: Node) -> int:
        """Return the index of the token behind a relation's name."""
        offset = location(relation)
        i = next(i for i, t in enumerate(self.tokens) if t.start == offset)
        while i + 2 < len(self.tokens) and self.tokens[i + 1].name == "ASCII_46":
            i += 2
        return i + 1

    def items(self, first: int, closed_by: str | None = None) -> list[Span]:
        """Return the spans of what commas separate from token ``first`` on, up to the bracket that closes it or the end."""
        depth, start, found = 0, first, []
        for i in range(first, len(self.tokens) + 1):
            name = self.tokens[i].name if i < len(self.tokens) else ""
            if i == len(self.tokens) or (depth == 0 and name in ("ASCII_44", closed_by)):
                found.append((self.tokens[start].start, self.tokens[i - 1].end))
                start = i + 1
                if name != "ASCII_44":
                    break
            depth += (name in ("ASCII_40", "ASCII_91")) - (name in ("ASCII_41", "ASCII_93"))
        return found

    def opening(self, first: int) -> int:
        """Return the index of the first token behind the next bracket that opens, from token ``first`` on."""
        return next(i for i in range(first, len(self.tokens)) if self.tokens[i].name == "ASCII_40") + 1

    def drop_items(self, spans: Sequence[Span], dropped: set[int]) -> None:
        """Take items, and the commas that go with them, out of a list that keeps at least one."""
        kept = [i for i in range(len(spans)) if i not in dropped]
        for i in sorted(dropped):
            if i < kept[0]:
                self.edits.append(Edit(spans[i][0], spans[i + 1][0], b""))
            else:
                self.edits.append(Edit(spans[i - 1][1], spans[i][1], b""))

    def text(self, span: Span) -> str:
        """Return the client's words there."""
        return self.a.text[slice(*span)].decode("utf-8")

    def marked(self, span: Span) -> str:
        """Return what the server sees there, with a mark for each value that is sealed."""
        return self._rendered(*span).decode("utf-8")

    # -- the end -----------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Prove the edits of the client's own statement, and fill the meaning."""
        meaning = self.a.meaning
        meaning.touches = True
        meaning.effects.tag = self.tag.encode()
        start, end = self.tokens[0].start, self.tokens[-1].end
        pieces = [*self.before, *self.after]
        if self.kept:
            check_definition(self.a, self.sealed, self.body)
            self._blank_comments()
            self._prove(start, end)
            if pieces or self.empty:
                head, tail = self._block(pieces)
                self.edits = [Edit(start, start, head), *self.edits, Edit(end, end, tail)]
        else:
            alone = len(pieces) == 1 and not self.empty and self.once is None
            text = pieces[0].encode("utf-8") if alone else b"".join(self._block(pieces))
            self.edits, self.occurrences = [Edit(start, end, text)], []
        self.occurrences.sort(key=lambda o: o.start)
        meaning.edits, meaning.occurrences = self.edits, self.occurrences
        (whole,) = parse(self._rendered(start, end))
        meaning.tree, meaning.definition = {whole.kind: whole.body}, True

    def _prove(self, start: int, end: int) -> None:
        """Show that the client's own statement, edited, is the edited tree."""
        verify(self._rendered(start, end), [{self.kind: self.body}])

    def _rendered(self, start: int, end: int) -> bytes:
        inside = [e for e in self.edits if start <= e.start and e.end <= end]
        shifted = [Edit(e.start - start, e.end - start, e.text) for e in inside]
        own = [o for o in self.occurrences if start <= o.start and o.end <= end]
        marked = [replace(o, start=o.start - start, end=o.end - start) for o in own]
        return Rendered(self.a.text[start:end], shifted, marked).fill(lambda _i, o: marker(o))

    def _blank_comments(self) -> None:
        replaced = sorted([(e.start, e.end) for e in self.edits] + [(o.start, o.end) for o in self.occurrences])
        starts = [s for s, _ in replaced]
        for edit in blanked_comments(self.a, []):
            i = bisect_right(starts, edit.start) - 1
            if i < 0 or replaced[i][1] <= edit.start:
                self.edits.append(edit)

    def _block(self, pieces: Sequence[str]) -> tuple[bytes, bytes]:
        """Return what stands before and behind the client's own statement in a DO block."""
        everything = "".join(pieces) + self.a.text.decode("utf-8")
        outer, inner = "$phi$", "$phi_sql$"
        while outer in everything or inner in everything:
            outer, inner = outer[:-1] + "_$", inner[:-1] + "_$"
        head = f"DO {outer}"
        if self.once is not None:
            head += f"DECLARE phi_there boolean := {self.once}; "
        if self.counted:
            head += "DECLARE phi_rows bigint; "
        head += "BEGIN"
        head += "".join(empty.check(inner) for empty in self.empty)
        head += "".join(f" EXECUTE {inner}{piece}{inner};" for piece in self.before)
        rest = "".join(f" EXECUTE {inner}{piece}{inner};" for piece in self.after)
        if self.counted:
            rest += f" RAISE INFO USING ERRCODE = '{COUNT_STATE}', MESSAGE = 'rows', DETAIL = phi_rows;"
        if self.once is not None and rest:
            rest = f" IF NOT phi_there THEN{rest} END IF;"
        rest += f" END{outer}"
        if self.kept:
            count = " GET DIAGNOSTICS phi_rows = ROW_COUNT;" if self.counted else ""
            return f"{head} EXECUTE {inner}".encode(), f"{inner};{count}{rest}".encode()
        return (head + rest).encode(), b""
