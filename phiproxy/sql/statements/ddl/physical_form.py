"""A DDL statement in physical form: edits of the client's text, and further statements that run with it or not at all.

Several statements run as one DO block, so that both protocols see one statement; ``Effects.tag`` is the command tag that the client
is told.

ALTER TABLE patients ALTER ssn SET NOT NULL
→ ALTER TABLE public.patients ALTER ssn SET NOT NULL
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from phiproxy.effects import COUNT_STATE
from phiproxy.errors import StatementRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.repeated_in_clear import check_definition
from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.rewrite.apply_edits import Rendered, verify
from phiproxy.sql.rewrite.order_of_rewrites import outside
from phiproxy.sql.rewrite.references_and_markers import marker
from phiproxy.sql.table_names import target_relation, will_mean
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import Node, Token, location, messages, parse
from phiproxy.sql.values.accepted_types import OWN, given
from phiproxy.sql.values.operands import Operand
from phiproxy.sql.values.uses import Define, Store

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Empty:
    """Rows of a table that must not exist, and why. ``secured``: row-level security may hide them from the owner."""

    table: str
    why: str
    condition: str = ""
    secured: bool = False

    def check(self, quote: str) -> str:
        """Return statements of a DO block that fail where there are such rows; none of them contains the dollar quote ``quote``.

        The table is locked, so that no row is added before the client's statement. Only FORCE hides rows from the owner.
        """
        said = self.why.replace("'", "''")
        where = f" WHERE {self.condition}" if self.condition else ""
        empties = (
            f" IF EXISTS (SELECT FROM {self.table}{where}) THEN RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = '{said}',"
            " HINT = 'Add a column without DEFAULT and NOT NULL, then write its values; add a constraint NOT VALID.'; END IF;"
        )
        locked = f" EXECUTE {quote}LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE{quote};"
        if not self.secured:
            return locked + empties
        oid = f"pg_catalog.to_regclass({quote}{self.table}{quote})"
        forced = f"(SELECT relforcerowsecurity FROM pg_catalog.pg_class WHERE oid = {oid})"
        shown, hidden = (f"EXECUTE {quote}ALTER TABLE {self.table} {no}FORCE ROW LEVEL SECURITY{quote};" for no in ("NO ", ""))
        return (
            f"{locked} DECLARE phi_forced boolean := {forced}; BEGIN IF phi_forced THEN {shown} END IF;{empties}"
            f" IF phi_forced THEN {hidden} END IF; END;"
        )


@dataclass(slots=True)
class Definition:
    """A DDL statement in work. ``body`` is edited to what the server sees of the client's own statement.

    ``before`` and ``after`` are statements around it; ``sent`` tells whether it is sent itself. ``once`` is an expression that
    tells whether the relation of IF NOT EXISTS exists: then nothing is done. ``empty`` are rows that must not exist. ``counted``:
    the client is told the number of rows. ``sealed`` are the texts that the server must not see.
    """

    a: Analysis
    kind: str
    body: Node
    tag: str
    edits: list[Edit] = field(default_factory=list)
    occurrences: list[Occurrence] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    sent: bool = True
    once: str | None = None
    empty: list[Empty] = field(default_factory=list)
    counted: bool = False
    tokens: list[Token] = field(default_factory=list)
    sealed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        start, end = self.a.answer.start, self.a.answer.end
        self.tokens = [t for t in self.a.tokens() if start <= t.start < end]

    def replace(self, span: Span, text: str) -> None:
        """Replace a span of the text."""
        self.edits.append(Edit(*span, text.encode("utf-8")))

    def seal(self, span: Span, operand: Operand, column: ProtectedColumn) -> None:
        """Replace a span by the envelope of a constant."""
        try:
            use, _ = given(operand, Store(column, self.a.new_row()), OWN)
        except StatementRefused as refusal:
            refusal.position = self.a.at(operand.offset)
            raise
        self.occurrences.append(Occurrence(*span, use, literal=operand.literal))
        self.sealed.append(operand.literal)

    def define(self, span: Span, text: bytes, column: ProtectedColumn, around: tuple[str, str], *, default: bool = False) -> None:
        """Replace a span by the sealed condition of a constraint, or text of a computed ``default``, between two texts."""
        lead, trail = (text.encode("utf-8") for text in around)
        use = Define(column, self.a.new_row(), default)
        self.occurrences.append(Occurrence(*span, use, literal=text, lead=lead, trail=trail))

    def qualify(self, relation: Node, schema: str) -> None:
        """Write the schema of a relation, so that what was analysed is what runs."""
        if "schemaname" not in relation:
            offset = location(relation)
            self.edits.append(Edit(offset, offset, quote_ident(schema).encode("utf-8") + b"."))
            relation["schemaname"] = schema

    def qualify_others(self, target: Node, new_relation: tuple[str, str] | None = None) -> None:
        """Write the schemas of the other protected relations that the statement names."""
        for relation in messages(self.body):
            if "relname" in relation and relation is not target and relation["relname"] in self.a.context.protection.table_names:
                own = new_relation is not None and will_mean(self.a, relation, new_relation)
                self.qualify(
                    relation, new_relation[0] if new_relation is not None and own else target_relation(self.a, relation).schema
                )

    # -- where things stand ------------------------------------------------------------------------------------------------

    def name_end(self, relation: Node) -> int:
        """Return the index of the token behind a relation's name."""
        offset = location(relation)
        i = next(i for i, t in enumerate(self.tokens) if t.start == offset)
        while i + 2 < len(self.tokens) and self.tokens[i + 1].name == "ASCII_46":
            i += 2
        return i + 1

    def items(self, first: int, closed_by: str | None = None) -> list[Span]:
        """Return the spans that commas separate, from token ``first`` to the closing bracket or the end."""
        depth, start, spans = 0, first, []
        for i in range(first, len(self.tokens) + 1):
            name = self.tokens[i].name if i < len(self.tokens) else ""
            if i == len(self.tokens) or (depth == 0 and name in ("ASCII_44", closed_by)):
                spans.append((self.tokens[start].start, self.tokens[i - 1].end))
                start = i + 1
                if name != "ASCII_44":
                    break
            depth += (name in ("ASCII_40", "ASCII_91")) - (name in ("ASCII_41", "ASCII_93"))
        return spans

    def opening(self, first: int) -> int:
        """Return the index of the token behind the next opening bracket, from token ``first`` on."""
        return next(i for i in range(first, len(self.tokens)) if self.tokens[i].name == "ASCII_40") + 1

    def drop_items(self, spans: Sequence[Span], dropped: set[int]) -> None:
        """Drop items of a list, with their commas; at least one item remains."""
        remaining = [i for i in range(len(spans)) if i not in dropped]
        for i in sorted(dropped):
            if i < remaining[0]:
                self.edits.append(Edit(spans[i][0], spans[i + 1][0], b""))
            else:
                self.edits.append(Edit(spans[i - 1][1], spans[i][1], b""))

    def text(self, span: Span) -> str:
        """Return the client's text of a span."""
        return self.a.text[slice(*span)].decode("utf-8")

    def marked(self, span: Span) -> str:
        """Return what the server sees of a span, with a mark for each sealed value."""
        return self._rendered(*span).decode("utf-8")

    # -- the end -----------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Prove the edits of the client's own statement, and note what becomes of it."""
        answer = self.a.answer
        answer.touches = True
        answer.effects.tag = self.tag.encode()
        start, end = self.tokens[0].start, self.tokens[-1].end
        pieces = [*self.before, *self.after]
        if self.sent:
            check_definition(self.a, self.sealed, self.body)
            self.edits += list(outside(self.a.blanks(), self.edits, self.occurrences))
            verify(self._rendered(start, end), [EditedTree({self.kind: self.body})])
            if pieces or self.empty:
                head, tail = self._block(pieces)
                self.edits = [Edit(start, start, head), *self.edits, Edit(end, end, tail)]
        else:
            only_one = len(pieces) == 1 and not self.empty and self.once is None
            text = pieces[0].encode("utf-8") if only_one else b"".join(self._block(pieces))
            self.edits, self.occurrences = [Edit(start, end, text)], []
        self.occurrences.sort(key=lambda o: o.start)
        answer.edits, answer.occurrences = self.edits, self.occurrences
        (whole,) = parse(self._rendered(start, end))
        self.a.tree = EditedTree({whole.kind: whole.body})
        answer.definition, answer.cacheable = True, False

    def _rendered(self, start: int, end: int) -> bytes:
        inside = [e for e in self.edits if start <= e.start and e.end <= end]
        shifted = [Edit(e.start - start, e.end - start, e.text) for e in inside]
        own = [o for o in self.occurrences if start <= o.start and o.end <= end]
        marked = [replace(o, start=o.start - start, end=o.end - start) for o in own]
        return Rendered(self.a.text[start:end], shifted, marked).fill(lambda _i, o: marker(o))

    def _block(self, pieces: Sequence[str]) -> tuple[bytes, bytes]:
        """Return the texts around the client's own statement in a DO block."""
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
        if self.sent:
            count = " GET DIAGNOSTICS phi_rows = ROW_COUNT;" if self.counted else ""
            return f"{head} EXECUTE {inner}".encode(), f"{inner};{count}{rest}".encode()
        return (head + rest).encode(), b""
