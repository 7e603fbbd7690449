"""The planner: one database's analysis with its cache; knows no sockets and no session, only what a session's view says.

It is replaced, cache and all, with its protection and catalogue; so the key needs only what differs in sessions and texts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import NamedTuple

from phiproxy.access.rules import Decision
from phiproxy.errors import (
    CatalogNeeded,
    ColumnMasked,
    InvalidColumnReference,
    NotAuthentic,
    PathNeeded,
    PhiproxyError,
    SealError,
    StatementRefused,
    SyntaxRefused,
    UndefinedColumn,
    UndefinedTable,
    ValueRefused,
)
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.compile import compile_definition, compile_script, compile_statement
from phiproxy.plan.long_inserts import of_some_rows
from phiproxy.plan.named_statements import Overlay, View
from phiproxy.plan.opened_view_rests import SealedViews
from phiproxy.plan.plan_cache import PlanCache
from phiproxy.plan.result_columns import SealedAttributes, sealed_attributes
from phiproxy.plan.rewritten_text import prove, rendered_of
from phiproxy.plan.search_path import IN_TEMPORARY, divided, joined
from phiproxy.plan.simple_query_template import SimpleQueryTemplate, simple_query_template
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.split_templates import SplitTemplates, split_template
from phiproxy.plan.statement_plan import ScriptPlan, StatementPlan
from phiproxy.plan.statement_record import Shape, shape
from phiproxy.plan.statements_behind import behind_ddl, behind_role, context_behind
from phiproxy.plan.templates import Templates, template
from phiproxy.plan.whether_split import MAX_SHAPED_TEXT, HasSplit, Refusal, Splitting
from phiproxy.policy.boundary import with_refused
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.catalog_rows import changed, overlaid
from phiproxy.policy.inheritance import with_descendants
from phiproxy.policy.protection import Protection
from phiproxy.policy.sealed_definitions import with_definitions
from phiproxy.sql.context import Context
from phiproxy.sql.domain_conditions import domain_condition
from phiproxy.sql.expressions.user_types import declarations
from phiproxy.sql.passes import analyse, shown_only
from phiproxy.sql.pg_errors.verdict import rejection
from phiproxy.sql.resolve.protected_values import ViewColumns
from phiproxy.sql.result import Answered, Outcome, Refused, Split, Waiting
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.rewrite.blank_comments import blank_others
from phiproxy.sql.split.view_definition import is_over_expressions
from phiproxy.sql.statements.utility import leaves_aborted, may_show_hidden
from phiproxy.sql.text.audit_text import visible_shape
from phiproxy.sql.text.newer_syntax import check_newer
from phiproxy.sql.text.parse import Scan, Statement, char_position, decode_text, first_token, messages, parse, too_deep
from phiproxy.sql.text.rewritten_backslashes import Edit, either_way
from phiproxy.sql.text.screen import Screen
from phiproxy.sql.text.shape import Shape as TextShape
from phiproxy.sql.text.shape import shape_of
from phiproxy.sql.values.uses import Renew

# A first word that begins none of COMMIT, END, ROLLBACK, ABORT and PREPARE TRANSACTION; a comment may stand before any.
_OTHER_START = re.compile(rb"\s*(?!(?:commit|end|rollback|abort|prepare)\b)[a-z]", re.IGNORECASE)

# How a name ends that PostgreSQL chooses for an index or a sequence.
_CHOSEN_NAME = re.compile(r"_(?:seq|key|pkey|idx|excl)\d*\Z")

# What different roles see of one database.
MAX_SEEN = 64

NONE: frozenset[str] = frozenset()
NONE_INSIDE: frozenset[bytes] = frozenset()

Analysed = StatementPlan | Answered
"""The plan of a Parse, or what DDL means whose values are still to be sealed."""


class Planner:
    """Statement texts to plans. Raises StatementRefused and its kin, CatalogNeeded, PathNeeded."""

    def __init__(self, protection: Protection, catalog: Catalog, ciphers: Ciphers, engine: EngineFacts | None = None) -> None:
        self._named = protection
        self.splitting = Splitting(engine, self._statement, self.waiting, self._keep)
        protection = with_refused(with_definitions(with_descendants(protection, catalog), catalog), catalog)
        self.protection = protection
        self.catalog = catalog
        self.ciphers = ciphers
        defaulted = ((t, [c for c in t.columns.values() if c.computed_default is not None]) for t in protection.tables)
        self._computed_defaults = [(table.name.lower().encode(), columns) for table, columns in defaulted if columns]
        self._hiding = any(t.hides and not t.columns for t in protection.tables)
        self.sealed: SealedAttributes = sealed_attributes(protection, catalog)
        own = frozenset(r.schema for r in catalog.relations if not r.schema.startswith("pg_temp_"))
        self.schemas = frozenset((*(catalog.schemas if catalog.schemas is not None else own), catalog.paths))
        self.screen = Screen(protection, catalog)
        self._names_are_ascii = all(n.isascii() for n in (*protection.table_names, *protection.column_names, *catalog.reaching))
        self._statements: PlanCache[StatementPlan] = PlanCache()
        self._scripts: PlanCache[ScriptPlan] = PlanCache()
        self._templates = Templates()
        self._split_templates = SplitTemplates()
        self._passing: PlanCache[StatementPlan] = PlanCache()
        self._views: dict[int, ViewColumns | None] = {}
        self._sealed_views = SealedViews(protection, catalog)
        self._as_seen: dict[Decision, Planner] = {}

    def open_views(self, text: bytes) -> None:
        """Open what computes the views that a text may name; KeyNeeded. It is done on the loop, before the text is planned."""
        self._sealed_views.open(text, self.ciphers)

    def passing(self, text: bytes, oids: tuple[int, ...]) -> StatementPlan | None:
        """Return the plan of a Parse whose text ``passes`` or ``controls``, or None; it is the same whatever the session says."""
        key = text, oids
        plan = self._passing.get(key)
        if plan is None:
            passes = self.screen.passes(text)
            plan = StatementPlan(text, text, identity=True, oids=oids) if passes else self._of_control(text, oids)
            if plan is not None:
                self._passing.add(key, plan)
        return plan

    def _of_control(self, text: bytes, oids: tuple[int, ...]) -> StatementPlan | None:
        """Return the plan of what begins or ends a transaction, which drivers have parsed each time; None of other texts."""
        if not self.screen.controls(text):
            return None
        try:
            plan = self.statement(text, oids, View(None, ""))
        except (PhiproxyError, CatalogNeeded):
            return None
        return plan if plan.ordinary else None

    def refused_shape(self, text: bytes) -> Shape:
        """Return what a record says of a statement that was refused: no word of it that may be a value."""
        return shape(visible_shape(text, self._all_names, self._all_functions))

    @cached_property
    def _all_names(self) -> frozenset[str]:
        relations = self.catalog.relations
        own = (*self.protection.table_names, *self.protection.column_names, *(r.schema for r in relations))
        return frozenset((*own, *(r.name for r in relations), *(c.name for r in relations for c in r.columns)))

    @cached_property
    def _all_functions(self) -> frozenset[str]:
        signatures = self.catalog.signatures
        return frozenset(name for part in (signatures.parts if signatures is not None else ()) for name in part.functions)

    def place(self, text: bytes) -> int:
        """Return the position of the first name in a text that may be protected: where a refusal of the whole text points."""
        return char_position(text, self.screen.first_name(text))

    def path(self, said: Sequence[str]) -> tuple[tuple[str, ...], bool, bool]:
        """Return the search path that a session has told of (``plan.search_path``), whether it has temporary tables, and ``hides``.

        See ``session.state_parts.SearchPath``: a sequence or an index that belongs to a column gets a name that nobody gives it.
        """
        schemas, temporary = divided(said)
        hiding = temporary & self.protection.table_names
        unnamed = bool(temporary) and any(_CHOSEN_NAME.search(name) for name in self.protection.table_names)
        return joined(schemas, hiding), bool(temporary) or IN_TEMPORARY in schemas, bool(hiding) or unnamed

    def learn(self, catalog: Catalog) -> None:
        """Go on with a catalogue that ``extends`` the one before: all plans hold."""
        self.catalog = catalog
        self.screen.learn(catalog)
        for decision, planner in self._as_seen.items():
            planner.learn(catalog.as_seen(masks=bool(decision)))

    def as_seen(self, decision: Decision) -> Planner:
        """Return the planner for sessions that see of some columns masks only: no plan of one is ever another's."""
        planner = self._as_seen.get(decision)
        if planner is None:
            catalog = self.catalog.as_seen(masks=bool(decision))
            planner = Planner(self._named.as_seen(decision), catalog, self.ciphers, self.splitting.engine)
            if len(self._as_seen) >= MAX_SEEN:
                self._as_seen.clear()
            self._as_seen[decision] = planner
        return planner

    @staticmethod
    def either_way(text: bytes, *, conforming: bool = False) -> tuple[bytes, list[Edit]]:
        """Return ``sql.text.rewritten_backslashes.either_way``."""
        return either_way(text, conforming=conforming)

    def changes_query(self, names: Iterable[str] = ()) -> bytes:
        """Return the query of what a transaction's own DDL changed, and of relations ``names``; its rows are for ``overlaid``."""
        query = changed(self.catalog, {*self.protection.table_names, *self.catalog.reaching, *names})
        return either_way(query, conforming=True)[0]

    def overlaid(
        self, rows: Sequence[str], reaching: Mapping[str, str], names: Iterable[str] = (), setters: frozenset[str] = NONE
    ) -> Planner:
        """Return a planner for a transaction that changed tables.

        ``reaching`` are names that it made over protected ones, ``setters`` those of code that may change the session.
        """
        asked = {*self.protection.table_names, *self.catalog.reaching, *names}
        read_check = partial(domain_condition, replaced=self.catalog.replaced)
        catalog = overlaid(self.catalog, rows, asked, reaching, read_check)
        catalog = dataclasses.replace(catalog, setters=catalog.setters | setters)
        return Planner(self._named, catalog, self.ciphers, self.splitting.engine)

    def statement(self, text: bytes, oids: tuple[int, ...], view: View) -> StatementPlan:
        """Return the plan of a Parse."""
        return self.completed(text, self.analysed(text, oids, view), oids, view)

    def open_defaults(self, text: bytes) -> None:
        """Open the computed defaults that a text may need, for another thread that is to plan it: that uses no key. KeyNeeded."""
        if not self._computed_defaults:
            return  # a long text is not looked at in vain
        lowered = text.lower()
        for name, columns in self._computed_defaults:
            if name in lowered:
                for column in columns:
                    with suppress(SealError, NotAuthentic):  # said where it is needed
                        self.ciphers.default_text(column)

    def analysed(self, text: bytes, oids: tuple[int, ...], view: View) -> Analysed:
        """Return the plan of a Parse, or DDL yet to be sealed: no key is used here. Another thread may do this, and ``script``."""
        try:
            return self._statement(text, oids, view)
        except RecursionError:
            raise too_deep() from None

    def completed(self, text: bytes, analysed: Analysed, oids: tuple[int, ...], view: View) -> StatementPlan:
        """Return the plan of a Parse that was analysed: of DDL, the values are sealed now; KeyNeeded."""
        if isinstance(analysed, StatementPlan):
            return analysed
        return compile_definition(text, analysed, oids, self.ciphers, view.styles)

    def known_statement(self, text: bytes, oids: tuple[int, ...], view: View) -> StatementPlan | None:
        """Return the plan of a Parse where it is kept."""
        return self._statements.get((text, oids, view.path, view.path_set, view.utf8, view.created, view.source))

    def known_script(self, text: bytes, view: View) -> ScriptPlan | None:
        """Return the plan of a simple Query where it is kept."""
        return self._scripts.get((text, view.path, view.path_set, view.utf8, view.created))

    def script(self, text: bytes, view: View) -> ScriptPlan:
        """Return the plan of a simple Query."""
        try:
            return self._script(text, view)
        except RecursionError:
            raise too_deep() from None

    def answers(self, text: bytes, view: View) -> list[Answered]:
        """Return what a text means, afresh: nothing for one that is forwarded unread."""
        try:
            return self._analysed_text(text, view).answers if self._looked_at(text, view) else []
        except RecursionError:
            raise too_deep() from None

    def leaves_aborted(self, text: bytes) -> bool:
        """Tell whether the server would begin with a text in an aborted transaction: its first statement leaves that."""
        if _OTHER_START.match(text) is not None:
            return False  # the text may be long: it was parsed once, and not by the loop
        try:
            statements = parse(text)
        except StatementRefused:
            return False
        return bool(statements) and leaves_aborted(statements[0])

    def _statement(self, text: bytes, oids: tuple[int, ...], view: View) -> Analysed:
        key = (text, oids, view.path, view.path_set, view.utf8, view.created, view.source)
        cached = self.known_statement(text, oids, view)
        if cached is not None:
            return cached
        if not self._looked_at(text, view):
            return StatementPlan(text, text, identity=True, oids=oids)
        try:
            _, answers, rendered = self._analysed_text(text, view, declarations(oids))
        except HasSplit as found:
            if not found.whole:
                raise _several(text) from None
            return found.plan or self.splitting.statement(text, found.split, oids, view)
        if not answers:
            return StatementPlan(text, text, identity=True, oids=oids)
        if len(answers) > 1:
            raise _several(text)
        if answers[0].definition:
            return answers[0]
        try:
            plan = compile_statement(text, answers[0], rendered, oids)
        except StatementRefused as refusal:
            raise self._unless_sure(refusal) from None
        if _cacheable(answers):
            self._statements.add(key, plan)
        return plan

    def _keep(self, text: bytes, oids: tuple[int, ...], view: View, plan: SplitPlan) -> None:
        waiting = (plan.split.waiting.numbers,) if plan.split.waiting is not None else ()
        self._statements.add((text, oids, view.path, view.path_set, view.utf8, view.created, view.source, *waiting), plan)

    def waiting(self, text: bytes, oids: tuple[int, ...], view: View, waiting: Waiting, refused: Refusal) -> SplitPlan:
        """Return the plan of a statement that the server answers, but for these values: what they stand in waits for the rest.

        Raises ``refused`` where it cannot be split, and where there is no engine. Another thread may do this.
        """
        known = (
            None
            if waiting.constants
            else self._statements.get((text, oids, view.path, view.path_set, view.utf8, view.created, view.source, waiting.numbers))
        )
        if isinstance(known, SplitPlan):
            return known
        try:
            self._answers(text, view, declarations(oids), (waiting, refused))
        except HasSplit as found:
            plan = found.plan or self.splitting.statement(text, found.split, oids, view)
            if found.whole and isinstance(plan, SplitPlan):
                return plan
        except RecursionError:
            raise too_deep() from None
        raise refused

    def _script(self, text: bytes, view: View) -> ScriptPlan:
        key = (text, view.path, view.path_set, view.utf8, view.created)
        cached = self.known_script(text, view)
        if cached is not None:
            return cached
        if not self._looked_at(text, view):
            return ScriptPlan(text, identity=True)
        try:
            _, answers, rendered = self._analysed_text(text, view)
        except HasSplit as found:
            return self.splitting.script(text, view, found)
        plan = compile_script(text, answers, rendered)
        if _cacheable(answers):
            self._scripts.add(key, plan)
        return plan

    def _looked_at(self, text: bytes, view: View) -> bool:
        """Tell whether a text must be parsed. One in an encoding that is not known here is refused when it might name something."""
        mentions = self.screen.mentions(text)
        if not view.utf8 and (mentions or (not self._names_are_ascii and not text.isascii())):
            raise StatementRefused(
                "a statement that may name a protected column cannot be read in this client_encoding",
                hint="SET client_encoding TO 'UTF8'.",
                position=self.screen.first_name(text) + 1,
            )
        return mentions or self.screen.watched(text, view.created) or _tests_for_null(text, view)

    def _analysed_text(self, text: bytes, view: View, declared: tuple[int, ...] = ()) -> AnalysedText:
        """Return the answers of a text: those of its shape where that was seen before, else from an analysis, proved."""
        shape = shape_of(text) if len(text) <= MAX_SHAPED_TEXT else None
        key = (view.path, view.path_set, view.utf8, view.created, declared, view.source)
        if shape is not None and shape.constants:
            answered = self._templates.answers(key, shape)
            if answered is not None:
                decode_text(text)
                return AnalysedText([], answered, rendered_of(text, answered))
            parts = self._split_templates.split(key, shape, text)
            if parts is not None and self.splitting.is_answered(parts, declared, view):
                decode_text(text)
                raise HasSplit(parts, whole=True)
        try:
            spread = of_some_rows(text, lambda shorter: self._proved(shorter, view, declared).answers, declared)
            if spread is not None:
                statements, answers, rendered = AnalysedText([], spread, rendered_of(text, spread))
            else:
                statements, answers, rendered = self._proved(text, view, declared)
        except HasSplit as found:
            if shape is not None and found.whole and found.plan is None:
                split_of_shape = split_template(shape, text, found.split)
                if split_of_shape is not None:
                    self._split_templates.add(key, shape, split_of_shape)
            raise
        if shape is not None and shape.constants and answers:
            of_shape = template(shape, statements or parse(text), answers)
            if of_shape is not None and all(m.cacheable for m in answers):
                self._templates.add(key, shape, of_shape)
        return AnalysedText(statements, answers, rendered)

    def simple_query(
        self, text: bytes, path: tuple[str, ...] | None, created: frozenset[str]
    ) -> tuple[SimpleQueryTemplate, TextShape] | None:
        """Return the template of a simple Query of a shape that was seen, and its shape; None where ``script`` must look at it.

        For a session that speaks UTF-8 and in whose transaction the path was not set.
        """
        shape = shape_of(text) if len(text) <= MAX_SHAPED_TEXT else None
        if shape is None or not shape.constants:
            return None

        def make(answers: list[Answered]) -> SimpleQueryTemplate | None:
            if any(m.numbers for m in answers):
                return None
            return simple_query_template(shape, answers, compile_script(text, answers, rendered_of(text, answers)))

        simple = self._templates.simple((path, False, True, created, (), False), shape, make)
        if simple is None:
            return None
        decode_text(text)
        return simple, shape

    def _proved(self, text: bytes, view: View, declared: tuple[int, ...]) -> AnalysedText:
        """Analyse a text and prove its rewrite; before a name is said not to exist, the catalogue is read once more."""
        try:
            statements, answers = self._answers(text, view, declared)
        except (UndefinedTable, UndefinedColumn):
            if view.catalog_fresh:
                raise
            raise CatalogNeeded from None
        return AnalysedText(statements, answers, prove(text, answers))

    def _unless_sure(self, refusal: StatementRefused) -> StatementRefused:
        """Return a refusal for types that PostgreSQL did not confirm as this version's: it may know a type that we do not."""
        if refusal.sqlstate not in _OF_TYPES or refusal.confirmed or self.catalog.signatures is None:
            return refusal
        return StatementRefused(str(refusal), hint=refusal.hint, position=refusal.position)

    def _said(self, refusal: Refusal, statement: Statement, text: bytes, context: Context) -> Refusal:
        """Return what is said of a statement that is refused: PostgreSQL's own words, where it would refuse it too."""
        if isinstance(refusal, ValueRefused):
            return refusal
        if refusal.placed:
            refusal.position = refusal.position or char_position(text, _place(text, statement, refusal.name))
        said = rejection(statement, text, context) if refusal.sqlstate in (*_PERHAPS_WRONG, *_NOT_IN_SIGHT) else None
        if said is not None and refusal.sqlstate in _NOT_IN_SIGHT and not isinstance(said, InvalidColumnReference):
            said = None
        return said or self._unless_sure(refusal)

    def _outcome(self, statement: Statement, text: bytes, context: Context, statements: Sequence[Statement]) -> Outcome:
        outcome = _analysed(statement, text, context, statements)
        return self._shown_as_it_is(outcome, statement, text, context) if self._hiding and isinstance(outcome, Refused) else outcome

    def _shown_as_it_is(self, refused: Refused, statement: Statement, text: bytes, context: Context) -> Outcome:
        """Return the outcome of a statement over tables with nothing but a hidden column as if they had none, where it is the same.

        Only what could show such a column stays refused: that a column is being sealed must not be felt.
        """
        if may_show_hidden(statement.kind, statement.body):
            return refused
        tables = tuple(t for t in context.protection.tables if t.columns or not t.hides)
        shown = dataclasses.replace(context, protection=dataclasses.replace(context.protection, tables=tables))
        outcome = analyse(statement, text, shown)
        return outcome if isinstance(outcome, Answered) else refused

    def _answered(
        self,
        outcome: Outcome,
        statement: Statement,
        text: bytes,
        context: Context,
        view: View,
        waiting: tuple[Waiting, Refusal] | None,
        *,
        whole: bool,
    ) -> Answered:
        """Return what a statement means that the server answers by itself; HasSplit for another, or its refusal.

        ``waiting`` are values for which the server does not, and how it is refused for them.
        """
        if self.protection.masked and isinstance(outcome, Refused) and not isinstance(outcome.error, ColumnMasked):
            judged = shown_only(statement, text, context)
            if judged is not None:
                # An engine would compute with masks: it is given nothing else.
                raise (
                    judged.error if isinstance(judged.error, ColumnMasked) else self._said(outcome.error, statement, text, context)
                )
        if waiting is not None and not isinstance(outcome, Split):
            raise self.splitting.found(waiting[1], statement, text, context, view, waiting[0], whole=whole)
        if isinstance(outcome, Answered) and is_over_expressions(statement, text, context, outcome.view):
            said = StatementRefused("a view over expressions of protected columns can only be replaced by one", hint="Drop it.")
            return self.splitting.view(said, statement, text, context)
        if isinstance(outcome, Answered):
            self.splitting.check_defaults(outcome, text, context)
            instead = self.splitting.instead(outcome, statement, text, context, view, whole=whole)
            if instead is not None:
                raise instead
            return outcome
        if isinstance(outcome, Split):
            raise self.splitting.of(outcome, whole=whole)
        refusal = self._said(outcome.error, statement, text, context)
        if statement.kind == "ViewStmt" and refusal.sqlstate == StatementRefused.sqlstate:
            return self.splitting.view(refusal, statement, text, context)
        raise self.splitting.found(refusal, statement, text, context, view, whole=whole)

    def _answers(
        self, text: bytes, view: View, declared: tuple[int, ...], waiting: tuple[Waiting, Refusal] | None = None
    ) -> tuple[Sequence[Statement], list[Answered]]:
        scan = Scan(text)
        try:
            statements = parse(text)
            check_newer(scan, statements, self.catalog.server_version)
        except SyntaxRefused:
            if self.screen.mentions(text):
                raise
            # Nothing protected is named: the server says what is wrong with it, in its own words.
            return [], []
        names = Overlay(self.statement, view)
        path, temporary = divided(view.path) if view.path is not None else (None, NONE)
        context = Context(
            self.protection, self.catalog, path, view.database, view.created, names, self._views, temporary, declared, scan,
            self.splitting.extensions, self.ciphers.default_text, (), self.ciphers.views, None if view.source else NONE_INSIDE,
            of_source=view.source,
        )  # fmt: skip
        answers: list[Answered] = []
        unforeseen = acts_unknown = False
        for statement in statements:
            try:
                outcome = self._outcome(statement, text, context, statements)
            except PathNeeded as needed:
                if answers:
                    raise StatementRefused(
                        "a statement before this one in the same string may change what its names mean",
                        hint="Send them one by one, or qualify the names with their schema.",
                        position=needed.position,
                    ) from None
                raise
            if isinstance(outcome, Refused) and isinstance(outcome.error, UndefinedTable | UndefinedColumn) and unforeseen:
                raise behind_ddl(outcome.error.position)
            answer = self._answered(outcome, statement, text, context, names.view, waiting, whole=len(statements) == 1)
            answers.append(answer)
            names.note(answer)
            if len(statements) > len(answers):
                context = context_behind(context, answer, path_set=view.path_set or context.path != path)
                whole_path = joined(context.path, context.temporary) if context.path is not None else None
                names.view = dataclasses.replace(view, path=whole_path, created=context.created)
            if acts_unknown and (answer.touches or answer.effects.executes or answer.effects.fetches):
                raise behind_role(char_position(text, first_token(text, statement)))
            acts_unknown = acts_unknown or self._may_change_role(answer, set_before=view.path_set)
            if unforeseen and answer.touches and answer.kind != "other":
                raise behind_ddl(char_position(text, first_token(text, statement)))
            unforeseen = unforeseen or answer.unforeseen
        blank_others(scan, answers)
        return statements, answers

    def _may_change_role(self, answer: Answered, *, set_before: bool) -> bool:
        """Tell whether behind a statement of a string the role may be another one, and so what it sees."""
        effects = answer.effects
        return self.protection.access is not None and (
            (effects.path_unknown and effects.path is None) or (effects.transaction and set_before)
        )


def _tests_for_null(text: bytes, view: View) -> bool:
    """Tell whether it is a source that may test a parameter for NULL: the server is told no more of it, whatever it reads."""
    return view.source and b"$" in text and b"NULL" in text.upper()


class AnalysedText(NamedTuple):
    """What a text means."""

    statements: Sequence[Statement]
    """Its statements, where all of it was parsed; else none."""
    answers: list[Answered]
    """What each statement means."""
    rendered: Rendered | None
    """The rewrite of the text; None where there is none."""


# Of what is refused with these PostgreSQL itself might say something, or say it at another place.
_OF_TYPES = frozenset({"42804", "42846", "42883"})
_PERHAPS_WRONG = frozenset({"0A000", *_OF_TYPES})
# The target of a write, to which its FROM may not refer, is none of the sources there; PostgreSQL says what it is.
_NOT_IN_SIGHT = frozenset({"42703", "42P01"})


def _place(text: bytes, statement: Statement, name: str) -> int:
    """Return the byte offset of a name in a statement; of its beginning where the name is empty or spelled in another way."""
    offset = text.lower().find(name.encode(), statement.start, statement.end) if name else -1
    return offset if offset >= 0 else first_token(text, statement)


def _several(text: bytes) -> SyntaxRefused:
    return SyntaxRefused(
        "cannot insert multiple commands into a prepared statement",
        hint="Send each as a statement of its own, or all of them as a simple query without parameters.",
        position=char_position(text, first_token(text, parse(text)[1])),
    )


def _analysed(statement: Statement, text: bytes, context: Context, statements: Sequence[Statement]) -> Outcome:
    """Analyse one of these statements; what was not read of the catalogue is asked for at once for all of them."""
    try:
        return analyse(statement, text, context)
    except CatalogNeeded as needed:
        named = (m.get("relname") for each in statements for m in messages(each.body))
        unread = frozenset(name for name in named if isinstance(name, str)) - (context.catalog.names or frozenset())
        raise CatalogNeeded(names=needed.names | unread) from None


def _cacheable(answers: Sequence[Answered]) -> bool:
    """Refuse texts with protected literals: neither they nor what is in them is kept (spec/stored-format 8)."""
    if not all(m.cacheable for m in answers):
        return False
    return not any(o.literal is not None and not isinstance(o.use, Renew) for m in answers for o in m.occurrences)
