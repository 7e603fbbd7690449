"""The planner: one database's analysis with its cache; knows no sockets and no session, only what a session's view says.

A planner belongs to one protection and one catalogue and is replaced, cache and all, when either changes; so the key needs only
what differs between sessions and texts.
"""

from __future__ import annotations

import dataclasses
import marshal
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from phiproxy.errors import CatalogNeeded, PathNeeded, StatementRefused, SyntaxRefused, UndefinedColumn, UndefinedTable
from phiproxy.plan.bulk import bulk_meanings
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.compile import compile_definition, compile_script, compile_statement
from phiproxy.plan.kept import Kept
from phiproxy.plan.names import NO_NAMES, KnownNames, Overlay
from phiproxy.plan.ready import Ready, made_ready
from phiproxy.plan.rewrite import prove
from phiproxy.plan.shapes import Templates, template
from phiproxy.plan.statement import ScriptPlan, SealedAttributes, StatementPlan
from phiproxy.policy.boundary import with_refused
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.definitions import with_definitions
from phiproxy.policy.inherit import with_descendants
from phiproxy.policy.protection import Protection
from phiproxy.policy.snapshot import changed, overlaid
from phiproxy.sql.analyse import analyse
from phiproxy.sql.analysis import Context
from phiproxy.sql.ddl.domains import domain_condition
from phiproxy.sql.declared import declarations
from phiproxy.sql.escapes import Edit, either_way
from phiproxy.sql.finish import blank_others
from phiproxy.sql.meaning import Meaning, Renew
from phiproxy.sql.parse import Statement, char_position, comments, decode_text, first_token, messages, parse, too_deep
from phiproxy.sql.path import divided, joined, set_path
from phiproxy.sql.scope import Value
from phiproxy.sql.screen import Screen
from phiproxy.sql.shape import Shape, shape_of
from phiproxy.sql.utility import leaves_aborted
from phiproxy.sql.verdict.rejection import confirm, rejection
from phiproxy.types.styles import Styles

# A longer text has no shape: what is long has many constants.
MAX_SHAPED_TEXT = 16 * 1024
# Of a longer INSERT only some rows are analysed (``bulk``); of a shorter one it would save less than a millisecond.
MIN_BULK_TEXT = 1024
# For each long INSERT of a string the rest of it is looked at once more.
MAX_BULKS = 8

# A first word that begins none of COMMIT, END, ROLLBACK, ABORT and PREPARE TRANSACTION; a comment may stand before any.
_OTHER_START = re.compile(rb"\s*(?!(?:commit|end|rollback|abort|prepare)\b)[a-z]", re.IGNORECASE)

NONE: frozenset[str] = frozenset()

__all__ = ["Analysed", "Planner", "View", "set_path"]

Analysed = StatementPlan | Meaning
"""The plan of a Parse, or what DDL means whose values are still to be sealed."""


@dataclass(slots=True)
class View:
    """What differs between sessions: the search path (None: not known), names made by this session, whether it can be read.

    ``path`` also tells of temporary tables (``sql.path``).
    ``path_set``: the path was set in a transaction that may yet take it back.
    """

    path: tuple[str, ...] | None
    database: str
    created: frozenset[str] = frozenset()
    utf8: bool = True
    catalog_fresh: bool = False
    path_set: bool = False
    names: KnownNames = field(default=NO_NAMES, compare=False)
    styles: Styles = Styles.CANONICAL


class Planner:
    """Statement texts to plans. Raises StatementRefused and its kin, CatalogNeeded, PathNeeded."""

    def __init__(self, protection: Protection, catalog: Catalog, ciphers: Ciphers) -> None:
        self._named = protection
        protection = with_refused(with_definitions(with_descendants(protection, catalog), catalog), catalog)
        self.protection = protection
        self.catalog = catalog
        self.ciphers = ciphers
        self.sealed: SealedAttributes = _sealed_attributes(protection, catalog)
        own = frozenset(r.schema for r in catalog.relations if not r.schema.startswith("pg_temp_"))
        self.schemas = catalog.schemas if catalog.schemas is not None else own
        self._screen = Screen(protection, catalog)
        self._names_are_ascii = all(n.isascii() for n in (*protection.table_names, *protection.column_names, *catalog.reaching))
        self._statements: Kept[StatementPlan] = Kept()
        self._scripts: Kept[ScriptPlan] = Kept()
        self._templates = Templates()
        self._passing: Kept[StatementPlan] = Kept()
        self._views: dict[int, tuple[Value, ...] | None] = {}

    def mentions(self, text: bytes) -> bool:
        """Tell whether a text may name something protected."""
        return self._screen.mentions(text)

    def inserts_elsewhere(self, text: bytes, created: Collection[str]) -> bool:
        """Tell whether a text may insert into what neither the catalogue nor the session has made."""
        return self._screen.inserts_elsewhere(text, created)

    def passes(self, text: bytes) -> bool:
        """Tell whether a text names nothing protected and does nothing that must be looked at, whatever else the session says.

        Where the client speaks UTF-8, ``script`` and ``statement`` then say that nothing becomes of it.
        """
        return self._screen.passes(text)

    def passing(self, text: bytes, oids: tuple[int, ...]) -> StatementPlan | None:
        """Return the plan of a Parse whose text ``passes``, or None; it is the same whatever else the session says."""
        key = text, oids
        plan = self._passing.get(key)
        if plan is None and self._screen.passes(text):
            plan = StatementPlan(text, text, identity=True, oids=oids)
            self._passing.add(key, plan)
        return plan

    def controls(self, text: bytes) -> bool:
        """Tell whether a text begins or ends a transaction or savepoint and says no more."""
        return self._screen.controls(text)

    def place(self, text: bytes) -> int:
        """Return the position of the first name in a text that may be protected: where a refusal of the whole text points."""
        return char_position(text, self._screen.place(text))

    def path(self, said: Sequence[str]) -> tuple[tuple[str, ...], bool]:
        """Return the search path that a session has told of (``sql.path``), and whether it has temporary tables."""
        schemas, temporary = divided(said)
        return joined(schemas, temporary & self.protection.table_names), bool(temporary)

    def learn(self, catalog: Catalog) -> None:
        """Go on with a catalogue that ``extends`` the one before: all plans hold."""
        self.catalog = catalog
        self._screen.learn(catalog)

    @staticmethod
    def either_way(text: bytes, *, conforming: bool = False) -> tuple[bytes, list[Edit]]:
        """Return ``sql.escapes.either_way``."""
        return either_way(text, conforming=conforming)

    def changes_query(self, names: Iterable[str] = ()) -> bytes:
        """Return the query of what a transaction's own DDL has changed; its rows are for ``overlaid``.

        ``names`` are those of other relations that must be known.
        """
        query = changed(self.catalog, {*self.protection.table_names, *self.catalog.reaching, *names})
        return either_way(query, conforming=True)[0]

    def overlaid(self, rows: Sequence[str], reaching: Mapping[str, str], names: Iterable[str] = ()) -> Planner:
        """Return a planner for a transaction that changed tables; ``reaching`` are names that it made over protected ones."""
        asked = {*self.protection.table_names, *self.catalog.reaching, *names}
        return Planner(self._named, overlaid(self.catalog, rows, asked, reaching, self._read_check), self.ciphers)

    def _read_check(self, text: str, family: str) -> bytes:
        return domain_condition(text, family, self.catalog.replaced)

    def statement(self, text: bytes, oids: tuple[int, ...], view: View) -> StatementPlan:
        """Return the plan of a Parse."""
        return self.finished(text, self.analysed(text, oids, view), oids, view)

    def analysed(self, text: bytes, oids: tuple[int, ...], view: View) -> Analysed:
        """Return the plan of a Parse, or what DDL means whose values are still to be sealed: no key is used here.

        This, and ``script``, may be done by another thread.
        """
        try:
            return self._statement(text, oids, view)
        except RecursionError:
            raise too_deep() from None

    def finished(self, text: bytes, found: Analysed, oids: tuple[int, ...], view: View) -> StatementPlan:
        """Return the plan of a Parse that was analysed: of DDL, the values are sealed now; KeyNeeded."""
        if isinstance(found, StatementPlan):
            return found
        return compile_definition(text, found, oids, self.ciphers, view.styles)

    def known_statement(self, text: bytes, oids: tuple[int, ...], view: View) -> StatementPlan | None:
        """Return the plan of a Parse where it is kept."""
        return self._statements.get((text, oids, view.path, view.path_set, view.utf8, view.created))

    def known_script(self, text: bytes, view: View) -> ScriptPlan | None:
        """Return the plan of a simple Query where it is kept."""
        return self._scripts.get((text, view.path, view.path_set, view.utf8, view.created))

    def script(self, text: bytes, view: View) -> ScriptPlan:
        """Return the plan of a simple Query."""
        try:
            return self._script(text, view)
        except RecursionError:
            raise too_deep() from None

    def meanings(self, text: bytes, view: View) -> list[Meaning]:
        """Return what a text means, afresh: nothing for one that is forwarded unread."""
        try:
            return self._known_or_fresh(text, view) if self._looked_at(text, view) else []
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
        key = (text, oids, view.path, view.path_set, view.utf8, view.created)
        cached = self.known_statement(text, oids, view)
        if cached is not None:
            return cached
        if not self._looked_at(text, view):
            return StatementPlan(text, text, identity=True, oids=oids)
        meanings = self._known_or_fresh(text, view, declarations(oids))
        if not meanings:
            return StatementPlan(text, text, identity=True, oids=oids)
        if len(meanings) > 1:
            raise SyntaxRefused(
                "cannot insert multiple commands into a prepared statement",
                hint="Send each as a statement of its own, or all of them as a simple query without parameters.",
                position=char_position(text, first_token(text, parse(text)[1])),
            )
        if meanings[0].definition:
            return meanings[0]
        try:
            plan = compile_statement(text, meanings[0], oids)
        except StatementRefused as refusal:
            raise self._unless_sure(refusal) from None
        if _cacheable(meanings):
            self._statements.add(key, plan)
        return plan

    def _script(self, text: bytes, view: View) -> ScriptPlan:
        key = (text, view.path, view.path_set, view.utf8, view.created)
        cached = self.known_script(text, view)
        if cached is not None:
            return cached
        if not self._looked_at(text, view):
            return ScriptPlan(text, identity=True)
        meanings = self._known_or_fresh(text, view)
        plan = compile_script(text, meanings)
        if _cacheable(meanings):
            self._scripts.add(key, plan)
        return plan

    def _looked_at(self, text: bytes, view: View) -> bool:
        """Tell whether a text must be parsed. One in an encoding that is not known here is refused when it might name something."""
        mentions = self._screen.mentions(text)
        if not view.utf8 and (mentions or (not self._names_are_ascii and not text.isascii())):
            raise StatementRefused(
                "a statement that may name a protected column cannot be read in this client_encoding",
                hint="SET client_encoding TO 'UTF8'.",
                position=self._screen.place(text) + 1,
            )
        return mentions or self._screen.watched(text)

    def _known_or_fresh(self, text: bytes, view: View, declared: tuple[int, ...] = ()) -> list[Meaning]:
        """Return the meanings of a text: those of its shape where that was seen before, else from an analysis, proved."""
        shape = shape_of(text) if len(text) <= MAX_SHAPED_TEXT else None
        key = (view.path, view.path_set, view.utf8, view.created, declared)
        if shape is not None and shape.constants:
            known = self._templates.meanings(key, shape)
            if known is not None:
                decode_text(text)
                return known
        meanings = self._of_some_rows(text, view, declared)
        if shape is not None and shape.constants and meanings:
            made = template(shape, parse(text), meanings)
            if made is not None and not any(m.bound or m.tree is not None for m in meanings):
                ready = None if any(m.numbers for m in meanings) else made_ready(shape, meanings, compile_script(text, meanings))
                self._templates.add(key, shape, made, ready)
        return meanings

    def ready(self, text: bytes, path: tuple[str, ...] | None, created: frozenset[str]) -> tuple[Ready, Shape] | None:
        """Return what is ready for a simple Query of a shape that was seen, and its shape; None where ``script`` must look at it.

        For a session that speaks UTF-8 and in whose transaction the path was not set.
        """
        shape = shape_of(text) if len(text) <= MAX_SHAPED_TEXT else None
        found = self._templates.ready((path, False, True, created, ()), shape) if shape is not None and shape.constants else None
        if shape is None or found is None:
            return None
        decode_text(text)
        return found, shape

    def _of_some_rows(self, text: bytes, view: View, declared: tuple[int, ...], inserts: int = MAX_BULKS) -> list[Meaning]:
        """Return the meanings of a text, of whose first long INSERTs (so many of them) only some rows are analysed."""
        if len(text) > MIN_BULK_TEXT and inserts:
            found = bulk_meanings(text, lambda shorter: self._of_some_rows(shorter, view, declared, inserts - 1), declared)
            if found is not None:
                return found
        return self._proved(text, view, declared)

    def _proved(self, text: bytes, view: View, declared: tuple[int, ...]) -> list[Meaning]:
        """Analyse a text and prove its rewrite."""
        statements, meanings = self._fresh_meanings(text, view, declared)
        prove(text, meanings, statements)
        return meanings

    def _fresh_meanings(self, text: bytes, view: View, declared: tuple[int, ...]) -> tuple[list[Statement], list[Meaning]]:
        """Analyse; before a name is said not to exist, the catalogue is read once more."""
        try:
            return self._meanings(text, view, declared)
        except (UndefinedTable, UndefinedColumn):
            if view.catalog_fresh:
                raise
            raise CatalogNeeded from None

    def _unless_sure(self, refusal: StatementRefused) -> StatementRefused:
        """Return a refusal for types that PostgreSQL was not asked about, or did not confirm, as one of this version's.

        It may know a type that is not known here.
        """
        if refusal.sqlstate not in _OF_TYPES or refusal.confirmed or self.catalog.signatures is None:
            return refusal
        return StatementRefused(str(refusal), hint=refusal.hint, position=refusal.position)

    def _said(self, refusal: StatementRefused, statement: Statement, text: bytes, context: Context) -> StatementRefused:
        """Return what is said of a statement that is refused, whose tree is as it was parsed: PostgreSQL's words if there are."""
        refusal.position = refusal.position or char_position(text, _place(text, statement, refusal.name))
        said = rejection(statement, text, context) if refusal.sqlstate in _PERHAPS_WRONG else None
        return said or self._unless_sure(refusal)

    def _meanings(self, text: bytes, view: View, declared: tuple[int, ...]) -> tuple[list[Statement], list[Meaning]]:
        mentions = self._screen.mentions(text)
        try:
            statements = parse(text)
        except SyntaxRefused:
            if mentions:
                raise
            # Nothing protected is named: the server says what is wrong with it, in its own words.
            return [], []
        names = Overlay(self, view)
        path, temporary = divided(view.path) if view.path is not None else (None, NONE)
        commented = comments(text) if len(statements) > 1 else None
        context = Context(
            self.protection, self.catalog, path, view.database, view.created, names, self._views, temporary, declared, commented
        )
        meanings: list[Meaning] = []
        unforeseen = False
        for statement in statements:
            parsed = _kept(statement)
            try:
                meaning = _analysed(statement, text, context, statements)
                if meaning.touches:
                    confirm(meaning, _as_parsed(statement, parsed, text), text, context)
            except PathNeeded as needed:
                if meanings:
                    raise StatementRefused(
                        "a statement before this one in the same string may change what its names mean",
                        hint="Send them one by one, or qualify the names with their schema.",
                        position=needed.position,
                    ) from None
                raise
            except StatementRefused as refusal:
                if isinstance(refusal, UndefinedTable | UndefinedColumn) and unforeseen:
                    raise _behind_ddl(refusal.position) from None
                raise self._said(refusal, _as_parsed(statement, parsed, text), text, context) from None
            meanings.append(meaning)
            names.note(meaning)
            context = _behind(context, meaning, path_set=view.path_set or context.path != path)
            names.view = dataclasses.replace(view, path=_whole_path(context), created=context.created)
            if unforeseen and meaning.touches and meaning.kind != "other":
                raise _behind_ddl(char_position(text, first_token(text, statement)))
            unforeseen = unforeseen or meaning.unforeseen
        blank_others(text, commented or (), meanings)
        return statements, meanings


# Of what is refused with these PostgreSQL itself might say something, or say it at another place.
_OF_TYPES = frozenset({"42804", "42846", "42883"})
_PERHAPS_WRONG = frozenset({"0A000", *_OF_TYPES})


def _kept(statement: Statement) -> bytes | None:
    """Return a copy of a tree, which the analysis edits: much faster than to parse its text once more. None of one that is deep."""
    try:
        return marshal.dumps(statement.body)
    except ValueError:
        return None


def _as_parsed(statement: Statement, parsed: bytes | None, text: bytes) -> Statement:
    if parsed is None:
        return next(again for again in parse(text) if again.start == statement.start)
    return statement._replace(body=marshal.loads(parsed))  # noqa: S302 - what _kept has made


def _place(text: bytes, statement: Statement, name: str) -> int:
    """Return the byte offset of a name in a statement; of its beginning where the name is empty or spelled in another way."""
    found = text.lower().find(name.encode(), statement.start, statement.end) if name else -1
    return found if found >= 0 else first_token(text, statement)


def _analysed(statement: Statement, text: bytes, context: Context, statements: Sequence[Statement]) -> Meaning:
    """Analyse one of these statements; what was not read of the catalogue is asked for at once for all of them."""
    try:
        return analyse(statement, text, context)
    except CatalogNeeded as needed:
        raise CatalogNeeded(names=needed.names | _unread(statements, context.catalog)) from None


def _unread(statements: Sequence[Statement], catalog: Catalog) -> frozenset[str]:
    """Return the names of relations in these statements that the catalogue was not read for."""
    named = (m.get("relname") for statement in statements for m in messages(statement.body))
    return frozenset(name for name in named if isinstance(name, str)) - (catalog.names or frozenset())


def _behind(context: Context, meaning: Meaning, *, path_set: bool) -> Context:
    """Return what the statements behind one of the same text are analysed against."""
    effects = meaning.effects
    # DDL may also have dropped or renamed the temporary table that hides a protected one.
    taken_back = (effects.transaction and path_set) or (effects.catalog_changed and bool(context.temporary))
    if not (effects.path_unknown or effects.catalog_changed or taken_back):
        return context
    made = {(r.schema, r.name) for r in effects.relations}
    kept = tuple(r for r in context.catalog.relations if (r.schema, r.name) not in made)
    # What reaches a protected table from now on is known, as what it is, from the next text on.
    reaching = {**context.catalog.reaching, **dict.fromkeys(effects.reaches, "made before it in the same string")}
    catalog = dataclasses.replace(context.catalog, relations=(*kept, *effects.relations), reaching=reaching)
    path = set_path(context.path, effects) if effects.path_unknown else None if taken_back else context.path
    protection = with_refused(context.protection, catalog) if effects.relations else context.protection
    created = context.created.union(effects.created)
    return dataclasses.replace(context, protection=protection, catalog=catalog, path=path, created=created)


def _whole_path(context: Context) -> tuple[str, ...] | None:
    return joined(context.path, context.temporary) if context.path is not None else None


def _behind_ddl(position: int | None) -> StatementRefused:
    return StatementRefused(
        "a statement before this one in the same string changes a protected table", hint="Send them one by one.", position=position
    )


def _cacheable(meanings: Sequence[Meaning]) -> bool:
    """Refuse texts with protected literals: neither they nor what is in them is kept (crypto.md section 3)."""
    if any(m.bound or m.tree is not None for m in meanings):
        return False
    return not any(o.literal is not None and not isinstance(o.use, Renew) for m in meanings for o in m.occurrences)


def _sealed_attributes(protection: Protection, catalog: Catalog) -> SealedAttributes:
    found = set()
    for table in protection.tables:
        relation = catalog.by_name.get((table.schema, table.name))
        if relation is not None:
            found |= {(relation.oid, c.attnum) for c in relation.columns if c.name in table.columns}
    return frozenset(found)
