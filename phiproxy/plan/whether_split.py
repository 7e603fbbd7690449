"""How a statement is planned that the server cannot answer by itself: what of it the server can, and what of it the engine can."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.plan.compile import IndeterminateDatatype, UndefinedParameter
from phiproxy.plan.named_statements import View
from phiproxy.plan.split_plan import EngineFacts, SplitPlan, source_oids, source_text, split_plan
from phiproxy.plan.statement_plan import ScriptPlan, StatementPlan
from phiproxy.plan.without_engine import WITH_ENGINE, refusal_of
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.result import Answered, Occurrence, Split, Waiting
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.split.around import inner_query, split_around
from phiproxy.sql.split.clock_constants import asks_clock
from phiproxy.sql.split.default_expressions import check_defaults
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.prepared import executed_query, explained, is_execute, placed_in_execute, placeholder, prepared_query
from phiproxy.sql.split.view_definition import define_view
from phiproxy.sql.split.writes.assigned_values import keeps
from phiproxy.sql.text.parse import Statement, char_position, parse
from phiproxy.sql.text.shape import shape_of
from phiproxy.sql.values.patterns import Like
from phiproxy.sql.values.uses import Search
from phiproxy.wire.oids import UNKNOWN_OID

# A longer text has no shape: what is long has many constants.
MAX_SHAPED_TEXT = 16 * 1024
_NO_EFFECTS = Effects()
_ENDS_TRANSACTION = Effects(transaction=True)
_SPLIT = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_COUNTS_ROWS = re.compile(rb"(?:\b(?:limit|offset)|\bfetch\s+(?:first|next))\s*$", re.IGNORECASE)

Oids = tuple[int, ...]
Refusal = StatementRefused | ValueRefused


class HasSplit(Exception):
    """A text has a statement that is split; ``whole``: it is all that there is, ``plan``: its plan, where that is known."""

    def __init__(self, split: Split, plan: StatementPlan | None = None, *, whole: bool) -> None:
        super().__init__("a statement is split")
        self.split = split
        self.plan = plan
        self.whole = whole


class Splitting:
    """``plan`` plans any statement, ``waiting`` one in which values wait, ``keep`` keeps a plan for its text and declared types."""

    def __init__(
        self,
        engine: EngineFacts | None,
        plan: Callable[[bytes, Oids, View], object],
        waiting: Callable[[bytes, Oids, View, Waiting, Refusal], SplitPlan],
        keep: Callable[[bytes, Oids, View, SplitPlan], None],
    ) -> None:
        self.engine = engine
        self._plan = plan
        self._waiting = waiting
        self._keep = keep

    @property
    def extensions(self) -> frozenset[str]:
        """The extensions whose functions the engine computes."""
        return self.engine.extensions if self.engine is not None else frozenset()

    def found(
        self,
        refusal: Refusal,
        statement: Statement,
        text: bytes,
        context: Context,
        view: View,
        waiting: Waiting | None = None,
        *,
        whole: bool,
    ) -> Exception:
        """Return HasSplit for a statement that was refused and can be split; else why it is refused.

        ``waiting`` are the values for which it was refused.
        """
        if refusal.sqlstate != StatementRefused.sqlstate or (isinstance(refusal, StatementRefused) and refusal.confirmed):
            return refusal
        if view.source:
            return refusal  # a source is the server's alone: it is not split once more
        if self.engine is not None and (statement.kind == "PrepareStmt" or is_execute(statement)):
            named = self._named(statement, text, context, view, waiting and (waiting, refusal))
            return refusal if named is None else HasSplit(*named, whole=whole)
        parts = split_statement(statement, text, context, refusal, waiting)
        parts = parts or self._around(statement, text, context, view, waiting and (waiting, refusal))
        if parts is None or not self.is_answered(parts, context.declared, view):
            return refusal
        return self.of(parts, whole=whole)

    def view(self, refusal: Refusal, statement: Statement, text: bytes, context: Context) -> Answered:
        """Return what becomes of CREATE VIEW over what only the engine computes; StatementRefused."""
        answer = define_view(statement, text, context)
        if answer is None or self.engine is None:
            if answer is not None:
                refusal.hint = f"{refusal.hint} {WITH_ENGINE}".strip()
            raise refusal
        return answer

    def instead(
        self, answer: Answered, statement: Statement, text: bytes, context: Context, view: View, *, whole: bool
    ) -> Exception | None:
        """Return HasSplit for a statement that the server would answer for few values only: LIKE $1, without an index on a part.

        Else a parameter with a wildcard would be refused when it comes. Or for none, as ``born = 'today'``: no tag is one of that.
        Nor is the server given what the engine has kept for RETURNING.
        """
        if self.engine is None or not (statement.kind in _SPLIT or keeps(text)):
            return None
        if not keeps(text) and not any(_answers_few(o) or asks_clock(o) for o in answer.occurrences):
            return None
        refusal = StatementRefused("no blind index answers patterns with wildcards here", hint="Index a part of the column.")
        if view.source:
            return refusal
        found = self.found(refusal, statement, text, context, view, whole=whole)
        return found if isinstance(found, HasSplit) else None

    def check_defaults(self, answer: Answered, text: bytes, context: Context) -> None:
        """Go on where all DEFAULTs that a statement makes can be computed; StatementRefused also where there is no engine."""
        parts = check_defaults(answer, text, context) if answer.definition else None
        if parts is not None and self.engine is None:
            raise refusal_of(parts)

    def is_answered(self, parts: Split, declared: Oids, view: View) -> bool:
        """Tell whether the server answers the source."""
        try:
            self._plan(source_text(parts), source_oids(parts, declared), replace(view, source=True))
        except StatementRefused:
            return False
        return True

    def of(self, parts: Split, *, whole: bool) -> Exception:
        """Return HasSplit, or what is said without an engine; StatementRefused where the engine may order otherwise."""
        if self.engine is None:
            return refusal_of(parts)
        self.engine.check(parts)
        return HasSplit(parts, whole=whole)

    def statement(self, text: bytes, parts: Split, oids: Oids, view: View) -> SplitPlan:
        """Return the plan of a Parse of a split statement; IndeterminateDatatype where it passes over a parameter."""
        _check_all_typed(parts, oids)
        return self._kept(text, parts, source_oids(parts, oids), oids, view)

    def typed(self, plan: SplitPlan, parameters: Oids, oids: Oids, view: View) -> SplitPlan:
        """Return the plan of a split statement the types of whose parameters are known: the server is told of them.

        ``oids`` are those that the client has declared.
        """
        types = source_oids(plan.split, parameters)
        if types == plan.source_types:
            return plan
        typed = self._kept(plan.text, plan.split, types, oids, view)
        typed.bound, typed.descriptions = plan.bound, plan.descriptions
        return typed

    def script(self, text: bytes, view: View, found: HasSplit) -> ScriptPlan:
        """Return the plan of a simple Query with a split statement in it: it is run as a pipeline, statement by statement."""
        if found.whole:
            plan = found.plan or self.statement(text, found.split, (), view)
            _check_no_parameters(plan)
            return ScriptPlan(text, identity=False, pipeline=(text,), ahead=plan)
        return self.one_by_one(text, view)

    def one_by_one(self, text: bytes, view: View) -> ScriptPlan:
        """Return the plan of a string of several statements that is run as a pipeline; StatementRefused for most utilities.

        What begins or ends transactions may stand before all others and behind them, where a pipeline does as a string does.
        """
        statements = parse(text)
        lines = [_apart(text, statement) for statement in statements]
        others = [n for n, statement in enumerate(statements) if statement.kind != "TransactionStmt"]
        for number, line in enumerate(lines):
            planned = self._plan(line, (), view)
            _check_no_parameters(planned)
            allowed = (_NO_EFFECTS,) if not others or others[0] < number < others[-1] else (_NO_EFFECTS, _ENDS_TRANSACTION)
            if not isinstance(planned, StatementPlan) or planned.effects not in allowed or _copies(planned) or planned.bound:
                raise StatementRefused(
                    "what is computed over opened rows stands in one string with a statement that changes more than tables",
                    hint="Send them one by one.",
                )
        return ScriptPlan(text, identity=False, pipeline=tuple(lines))

    def _kept(self, text: bytes, parts: Split, types: Oids, oids: Oids, view: View) -> SplitPlan:
        plan = split_plan(text, parts, self._source(parts, types, view), types)
        if parts.cacheable and _holds_no_value(text):
            self._keep(text, oids, view, plan)
        return plan

    def _source(self, parts: Split, oids: Oids, view: View) -> StatementPlan:
        try:
            plan = self._plan(source_text(parts), oids, replace(view, source=True))
        except StatementRefused as refused:
            refused.position = None  # it is one in the source's text
            raise
        if not isinstance(plan, StatementPlan) or isinstance(plan, SplitPlan) or plan.inline is not None:
            raise StatementRefused("a part of this statement that the server is to answer cannot be answered by it")
        return plan

    def _around(
        self, statement: Statement, text: bytes, context: Context, view: View, waiting: tuple[Waiting, Refusal] | None
    ) -> Split | None:
        """Return how a statement is split whose query is; None where that is not."""
        inner = inner_query(statement, text, context) if self.engine is not None else None
        if inner is None:
            return None
        query = b" " * inner.start + text[inner.start : inner.end]
        if waiting is None:
            plan = self._plan(query, context.declared, view)
        else:
            try:
                plan = self._waiting(query, context.declared, view, *waiting)
            except (StatementRefused, ValueRefused):
                return None
        return split_around(statement, text, context, inner, plan.split) if isinstance(plan, SplitPlan) else None

    def _named(
        self, statement: Statement, text: bytes, context: Context, view: View, waiting: tuple[Waiting, Refusal] | None
    ) -> tuple[Split, StatementPlan] | None:
        """Return the split of a query that is prepared, executed or explained by name, and the plan of that statement."""
        if statement.kind == "PrepareStmt":
            try:
                start, declared, effects = prepared_query(statement, text, context)
            except Impossible:
                return None
            # Blanks stand for what is before it, so that positions are the client's.
            query = self._plan(b" " * len(text[:start].decode()) + text[start : statement.end], declared, view)
            if not isinstance(query, SplitPlan):
                return None
            named = placeholder(statement.body["name"])
            plan = StatementPlan(text, named, identity=False, effects=effects, bound=True, prepared=(query, declared))
            return query.split, plan
        lead, statement = explained(statement, text)
        known = context.names.statement(statement.body["name"]) if context.names is not None else None
        try:
            if isinstance(known, SplitPlan) and known.descriptions:
                types = next(iter(known.descriptions.values())).parameters
            elif isinstance(known, StatementPlan) and waiting is not None:
                types = tuple(known.oids[n] if oid is None else oid for n, oid in enumerate(known.described))
            else:
                return None
            query = executed_query(Analysis(text, context, statement, RULES), lead, known.text, types)
            executed = self._executed(query.text, view, None if isinstance(known, SplitPlan) else waiting)
        except (Impossible, ValueRefused):
            return None
        except StatementRefused as refused:
            refused.position = refused.position or char_position(text, statement.start)
            raise
        if executed is None:
            return None
        parts = placed_in_execute(executed.split, query.values)
        return parts, replace(split_plan(text, parts, executed.source, executed.source_types), bound=True, told=True)

    def _executed(self, query: bytes, view: View, waiting: tuple[Waiting, Refusal] | None) -> SplitPlan | None:
        try:
            plan = self._plan(query, (), view) if waiting is None else self._waiting(query, (), view, *waiting)
        except StatementRefused as refused:
            refused.position = None  # it is one in the query's text
            raise
        return plan if isinstance(plan, SplitPlan) else None


def _copies(plan: StatementPlan) -> bool:
    """Tell whether a COPY has protected columns in its data."""
    write = plan.split.write if isinstance(plan, SplitPlan) else None
    return plan.copy is not None or (write is not None and write.copied > 0)


def _check_all_typed(parts: Split, declared: Oids) -> None:
    """Refuse ``$2`` without ``$1``, as PostgreSQL does: the statement is taken apart, and none of its parts need say so."""
    typed = {n for n, oid in enumerate(declared, start=1) if oid not in (0, UNKNOWN_OID)}
    untyped = set(range(1, max(parts.numbers, default=0))) - parts.numbers - typed
    if untyped:
        raise IndeterminateDatatype(f"could not determine data type of parameter ${min(untyped)}")


def _check_no_parameters(plan: object) -> None:
    if isinstance(plan, SplitPlan) and plan.inputs:
        raise UndefinedParameter(
            f"there is no parameter ${min(plan.split.numbers)}",
            hint="A simple query has no parameters. Use the extended protocol to pass them.",
        )


def _holds_no_value(text: bytes) -> bool:
    """Tell whether a split statement has no constant that may be one of a protected column: its text may be kept.

    SELECT id FROM patients WHERE full_name ILIKE $1 ORDER BY full_name LIMIT 50
    → true
    """
    shape = shape_of(text) if len(text) <= MAX_SHAPED_TEXT else None
    return shape is not None and all(_COUNTS_ROWS.search(gap) for gap in shape.gaps[: len(shape.constants)])


def _apart(text: bytes, statement: Statement) -> bytes:
    """Return one statement of a text with blanks for what is before it, so that all positions in it are as they were."""
    return b" " * len(text[: statement.start].decode("utf-8", "replace")) + text[statement.start : statement.end]


def _answers_few(occurrence: Occurrence) -> bool:
    """Tell whether it is a pattern that comes as a parameter, and is answered only if it is a whole value, or any."""
    use = occurrence.use
    like = use.chosen if isinstance(use, Search) and occurrence.numbers else None
    return isinstance(like, Like) and all(part in ("all", "whole") for part, _ in like.answered)
