"""What is protected in one database, at run time: the policy joined with the registry's numbers and the live catalogue.

Made by ``phiproxy.policy.bind``; everything above (sql, plan, session) reads only this and the catalogue snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from phiproxy.access.rules import AccessRules, ColumnName, Decision, Masked, in_part
from phiproxy.documents.field_paths import Path, spell_path
from phiproxy.errors import ColumnMasked, NotAuthentic
from phiproxy.index.characters import ASCII, Characters
from phiproxy.policy.dependencies import STATISTICS
from phiproxy.policy.identifiers import shown_expression, split_identifiers
from phiproxy.types.declared import DeclaredType
from phiproxy.wire.oids import BYTEA_OID, JSONB_OID, TEXT_OID

__all__ = ["ColumnName", "DeclaredType", "ProtectedColumn", "ProtectedTable", "Protection", "Slot", "SlotState"]

SlotState = Literal["building", "ready", "active", "dropped"]
Form = Literal["bytea", "text", "jsonb"]
"""How values stand on the server: envelopes, or inside of documents as text (``->>``) or as JSON."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One tag slot of an identity (spec/stored-format 6.5). ``number`` is its place in the envelope, from 0.

    ``total``: its expression is NULL for no value. ``form``: how the values stand in the expression that the tag is taken from.
    """

    number: int
    expression: str
    generation: int
    state: SlotState
    normaliser: int = 1
    total: bool = True
    family: str = ""
    form: Form = "bytea"


def answering_slots(slots: Iterable[Slot], expressions: Iterable[str]) -> dict[str, Slot]:
    """Return the slot of each expression that has one: the active one, else the one that is being built."""
    by_expression: dict[str, Slot] = {}
    for slot in slots:
        if slot.state == "active" or (slot.state != "dropped" and slot.expression not in by_expression):
            by_expression[slot.expression] = slot
    return {expression: by_expression[expression] for expression in expressions if expression in by_expression}


def waiting_slots(slots: Iterable[Slot], expressions: Iterable[str]) -> list[Slot]:
    """Return the slots of expressions that no slot answers yet: values that were stored before them have no tag in them."""
    return [slot for slot in answering_slots(slots, expressions).values() if slot.state != "active"]


@dataclass(frozen=True, slots=True)
class Check:
    """A part of a CHECK constraint that the proxy evaluates.

    ``definition`` is the envelope of its condition (policy.physical_columns). ``validated``: present values satisfy it too.
    ``child``: it is one of that child of the column's table only, which rows of the table itself need not satisfy.
    """

    name: str
    definition: bytes
    validated: bool = True
    child: str = ""


@dataclass(frozen=True, slots=True)
class DocumentFields:
    """The fields of a jsonb column that stays jsonb: each is sealed where it stands, under an identity of its own.

    ``others_sealed``: so is each other scalar, under the column's identity, but for what stands at or below a path of ``clear``.
    """

    fields: tuple[ProtectedColumn, ...]
    paths: tuple[Path, ...]
    others_sealed: bool = False
    clear: tuple[Path, ...] = ()

    def without(self, paths: Collection[Path]) -> DocumentFields:
        """Return the same where these fields are none."""
        listed = [(f, path) for f, path in zip(self.fields, self.paths, strict=True) if path not in paths]
        return replace(self, fields=tuple(f for f, _ in listed), paths=tuple(path for _, path in listed))


@dataclass(frozen=True, slots=True)
class Part:
    """What stands at a path of a document column: ``of`` is the column, ``text``: as ``->>`` gives it."""

    of: ProtectedColumn
    path: Path
    text: bool


@dataclass(frozen=True, slots=True)
class ProtectedColumn:
    """One protected column of one table. Columns of one domain share identity, number, scope and slots.

    ``checks``, ``default``, the envelope of a constant, and ``computed_default``, that of the text of an expression, are what the
    server's catalogue says of the column, and ``below`` the checks that it has in children of the table only.

    Or what ``expression`` makes of the column ``base``: as a column of an identity of its own, so that it is never taken for it,
    whose one slot is the one that the registry has for that expression. ``shown_of``: a cast of that column, which depends on the
    session's settings or has no index for another reason; it is done where the value is shown.

    ``distrusted``: what the registry says of it does not verify, so its values are neither stored, searched nor opened.

    ``document``: it is a jsonb whose fields are sealed one by one. ``path``: it is such a field, by its canonical path.
    ``part``: it is an expression over a document, whose values the server computes: nothing is stored as it. ``tags_of``: the
    identity whose tags these values have there, and as what; empty: its own. ``place``: values of ``type`` are sealed for that path
    of the document, into which the server puts them; empty: they are documents.
    ``masked`` is what the role of the session sees of it instead of its values; None: it sees them.
    """

    schema: str
    table: str
    name: str
    identity: str
    number: int
    scope: str
    type: DeclaredType
    pad: int | None
    slots: tuple[Slot, ...]
    deployment: str
    tenant: str = ""
    checks: tuple[Check, ...] = ()
    below: tuple[Check, ...] = ()
    default: bytes | None = None
    base: ProtectedColumn | None = None
    expression: str = "@"
    shown_of: ProtectedColumn | None = None
    characters: Characters = ASCII
    distrusted: bool = False
    document: DocumentFields | None = None
    path: str = ""
    part: Part | None = None
    place: Path = ()
    tags_of: str = ""
    masked: Masked | None = None
    computed_default: bytes | None = None

    @property
    def compared_as(self) -> str:
        """What its tags are tags of: the same for all columns, fields of documents and expressions whose tags may be compared."""
        if self.base is not None:
            return f"{self.base.compared_as}\0{self.expression}"
        return self.tags_of or self.identity

    def own(self, slot: Slot) -> Slot:
        """Return a slot of a column that is compared with this one as it stands in the values of this one."""
        return next((s for s in self.slots if (s.number, s.state) == (slot.number, slot.state)), slot)

    @property
    def form(self) -> Form:
        """How its values stand on the server."""
        if self.part is not None:
            return "text" if self.part.text else "jsonb"
        return "bytea" if self.document is None else "jsonb"

    @property
    def stored_oid(self) -> int:
        """The OID of the type that the server has for its values."""
        return {"bytea": BYTEA_OID, "jsonb": JSONB_OID, "text": TEXT_OID}[(self.base or self).form]

    @property
    def with_fields(self) -> tuple[ProtectedColumn, ...]:
        """The column, and its fields where it is a document with some."""
        return (self,) if self.document is None else (self, *self.document.fields)

    def named(self, name: str) -> ProtectedColumn:
        """Return the same as a column of another name: the hidden one beside it."""
        document = self.document
        if document is not None:
            document = replace(document, fields=tuple(replace(f, name=name) for f in document.fields))
        return replace(self, name=name, document=document)

    def part_at(self, path: Path, type_: DeclaredType, *, text: bool) -> ProtectedColumn:
        """Return what stands at a path of this document, as ``->`` gives it, or (``text``) ``->>``."""
        identity = f"{self.identity}\0{spell_path(path)}{'->>' if text else '->'}"
        part = Part(self, path, text)
        part_of = replace(self, identity=identity, type=type_, slots=(), checks=(), below=(), document=None, part=part)
        return part_of.without_defaults

    def placed(self, path: Path, type_: DeclaredType | None = None) -> ProtectedColumn:
        """Return the same for values that are put at a path of its documents: JSON, or what JSON is made of."""
        return replace(self, place=path, type=type_ or self.type).without_defaults

    def with_tenant(self, tenant: str) -> ProtectedColumn:
        """Return the same for the sessions of one tenant."""
        document = self.document
        if document is not None:
            document = replace(document, fields=tuple(replace(f, tenant=tenant) for f in document.fields))
        return replace(self, tenant=tenant, document=document)

    def characters_of(self, slot: Slot) -> Characters:
        """Return what upper and lower case mean to a slot: in another family's database than its own only ASCII's are the same."""
        return self.characters if slot.family in ("", self.characters.family) else ASCII

    def __hash__(self) -> int:
        # Ciphers are found by column for every value, and a hash of all of this takes longer than most of what is done then.
        return hash((self.number, self.name, self.path))

    def refuse_distrusted(self) -> None:
        """Raise NotAuthentic for a column that somebody has changed in the key registry past phiproxy."""
        if self.distrusted:
            text = f"what the key registry says of {self.label} is not authentic"
            raise NotAuthentic(text, hint="The operator finds the row with: phiproxy check")

    @property
    def masked_whole(self) -> Masked | None:
        """What is seen instead of each of its values; None where these are, or of a document its fields one by one are masked."""
        return self.masked if self.masked is not None and not self.masked.in_part else None

    def refuse_masked(self) -> None:
        """Raise ColumnMasked where its values are not shown: then nothing but a mask may be, and no index answers."""
        if self.masked is not None:
            fields = tuple(sorted(path for path, _ in self.masked.fields))
            raise column_masked((self.base or self).label, self.masked.show.denies, fields)

    @property
    def label(self) -> str:
        """``schema.table.column`` for messages."""
        path = self.path if self.part is None else spell_path(self.part.path)
        if self.document is not None and self.place in self.document.paths:
            path = spell_path(self.place)
        return shown_expression(self.expression, f"{self.schema}.{self.table}.{self.name}{path}")

    def derived(self, expression: str, type_: DeclaredType) -> ProtectedColumn:
        """Return what an expression, in phiproxy's own spelling, makes of this column."""
        slots = tuple(replace(s, expression="@") for s in self.slots if s.expression == expression)
        identity = f"{self.identity}\0{expression}"
        return replace(self, identity=identity, type=type_, slots=slots, base=self, expression=expression)

    def cast_to(self, type_: DeclaredType) -> ProtectedColumn:
        """Return what a cast makes of this column where it is shown."""
        root, expression = self.base or self, f"{self.expression}::{type_.name}"
        return replace(root.derived(expression, type_), slots=(), shown_of=self)

    @property
    def unbounded(self) -> ProtectedColumn:
        """The column as it seals a value that only one statement sees: no length applies, and no constraint."""
        text = self.type.family in ("text", "varchar")
        type_ = DeclaredType.builtin("text") if text else self.type.underlying.unlimited
        return replace(self, type=type_, checks=(), below=())

    @property
    def with_children(self) -> ProtectedColumn:
        """The column as a statement writes it that reaches rows of the table's children too."""
        return replace(self, checks=(*self.checks, *self.below), below=()) if self.below else self

    @property
    def bare(self) -> ProtectedColumn:
        """The column without what the catalogue says of values that are still to be stored, and whoever sees it."""
        plain = not (self.checks or self.below) and self.masked is None and self.default is None and self.computed_default is None
        return self if plain else replace(self, checks=(), below=(), masked=None).without_defaults

    @property
    def without_defaults(self) -> ProtectedColumn:
        """The column as if it had no DEFAULT."""
        return replace(self, default=None, computed_default=None)

    def slot_for(self, expression: str) -> Slot | None:
        """Return the active slot of an expression in phiproxy's own spelling, or None.

        NotAuthentic for a ``distrusted`` column, ColumnMasked for one whose values the role does not see.
        """
        self.refuse_distrusted()
        self.refuse_masked()
        return next((s for s in self.slots if s.expression == expression and s.state == "active"), None)


_BY_PATH = "What else is in it can be taken by its path."
_OR_BY_PATH = "Select the column itself, or a path of it as it is. " + _BY_PATH


def column_masked(label: str, denied: bool, fields: tuple[str, ...] = ()) -> ColumnMasked:  # noqa: FBT001 - what the rule says
    """Return why a statement is refused that reads a column of which its role sees nothing, or a mask only.

    ``fields`` are the paths of those that are masked of a document of which others are not.
    """
    if fields:
        which = ", ".join(fields)
        if denied:
            return ColumnMasked(f"permission denied for column {label}, for {which} in it", label, hint=_BY_PATH)
        text = f"column {label} is masked for this role in part ({which}), and so is only shown"
        return ColumnMasked(text, label, hint=_OR_BY_PATH)
    if denied:
        return ColumnMasked(f"permission denied for column {label}", label, hint="The policy's `access:` denies it to this role.")
    return ColumnMasked(
        f"column {label} is masked for this role, and so is only shown",
        label,
        hint="Select the column itself. It can be neither compared, sorted by, grouped, computed with, copied nor updated.",
    )


def _masked(column: ProtectedColumn, masks: Mapping[ColumnName, Masked]) -> Masked | None:
    """Return what is seen of a column: what a rule says of the whole, or of a document what rules say of its fields."""
    name = column.schema, column.table, column.name
    fields = column.document.fields if column.document is not None else ()
    return masks.get(name) or in_part((f.path, masks[own]) for f in fields if (own := (*name[:2], column.name + f.path)) in masks)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why every statement is refused that would read or write a table, and what the operator can do about it."""

    why: str
    hint: str


@dataclass(frozen=True)
class ProtectedTable:
    """A table with at least one protected column, by name; ``inherited`` are those that only a parent of it names in the policy.

    ``hides``: it has a hidden column beside one that is being sealed; where it has no ``columns``, that is all that is to be done.

    ``refused``: what is in it is not understood, or may not be in clear; then it may have no ``columns`` that are known.

    ``subject``: the column that says whom a row is about, protected or not.
    """

    schema: str
    name: str
    columns: Mapping[str, ProtectedColumn]
    inherited: frozenset[str] = frozenset()
    refused: Refusal | None = None
    hides: bool = False
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where protection ends, beyond the columns of the policy (``policy.boundary``).

    ``registered`` are the columns that the registry knows, ``released`` those that the policy lets go, and ``clear`` the (schema,
    table) that it says to be in clear though they are named like protected ones.
    """

    registered: frozenset[ColumnName] = frozenset()
    released: frozenset[ColumnName] = frozenset()
    clear: frozenset[tuple[str, str]] = frozenset()


# What ANALYZE has found in all tables: of a column in clear its most common values, of a sealed one how many are NULL, or equal.
OF_STATISTICS = Refusal("statistics tell of values, and some are masked for this role", "Ask for them as a role that sees them.")


@dataclass(frozen=True)
class Protection:
    """All protected tables of one database. ``generation`` changes with policy or registry, and is part of every plan key."""

    generation: int
    database: str
    deployment: str
    registry_schema: str
    tables: tuple[ProtectedTable, ...]
    fixed: frozenset[str] = frozenset()
    """Settings that decide the session's tenant, in lower case: they may not change after the session has started."""
    characters: Characters = ASCII
    boundary: Boundary = Boundary()
    clear: tuple[ProtectedTable, ...] = ()
    """The columns of the policy whose values are in clear yet, by their tables, which may have columns in ``tables`` too.

    A document is in both where some of its fields are in clear yet: in ``tables`` without these.
    """
    access: AccessRules | None = None
    """Who sees what; None: everybody sees everything."""

    def as_seen(self, decision: Decision) -> Protection:
        """Return the same for sessions that see of some columns masks only.

        A table with such a column that is in clear yet, as no mask can be made of it, is refused to them.
        """
        masks = dict(decision)
        tables = {
            (t.schema, t.name): replace(t, columns={n: replace(c, masked=_masked(c, masks)) for n, c in t.columns.items()})
            for t in self.tables
        }
        for table in self.clear:
            name = table.schema, table.name
            columns = tables[name].columns.values() if name in tables else ()
            sealed = {c.name + c.path for column in columns for c in column.with_fields}
            listed = (c for column in table.columns.values() for c in column.with_fields)
            open_yet = next((c for c in listed if (*name, c.name + c.path) in masks and c.name + c.path not in sealed), None)
            if open_yet is not None:
                why = f"{open_yet.label} is masked for this role, and in clear yet"
                refused = Refusal(why, "Encrypt it first: phiproxy encrypt.")
                tables[name] = replace(tables.get(name, ProtectedTable(*name, {})), refused=refused)
        if masks:
            own = [ProtectedTable("pg_catalog", name, {}, refused=OF_STATISTICS) for name in STATISTICS]
            tables.update({(t.schema, t.name): t for t in own})
        return replace(self, tables=tuple(tables.values()))

    @cached_property
    def in_clear(self) -> Mapping[ColumnName, str]:
        """The registered names of the columns that are in clear yet, and of fields of documents that are not, with their labels."""
        names: dict[ColumnName, str] = {}
        for table in self.clear:
            sealed = self.by_name[table.schema, table.name].columns if (table.schema, table.name) in self.by_name else {}
            for column in table.columns.values():
                there = {each.path for each in sealed[column.name].with_fields} if column.name in sealed else set()
                whole = column.with_fields if there else (column,)
                names.update({(c.schema, c.table, c.name + c.path): c.label for c in whole if c.path not in there})
        return names

    @cached_property
    def masked(self) -> tuple[ProtectedColumn, ...]:
        """The columns of which this role sees masks only, or nothing."""
        return tuple(c for t in self.tables for c in t.columns.values() if c.masked is not None)

    @cached_property
    def only_masked(self) -> Protection:
        """The same with nothing protected but what is masked: by this it is judged whether that is only shown."""
        tables = (
            replace(t, columns={n: c.without_defaults for n, c in t.columns.items() if c.masked is not None}) for t in self.tables
        )
        return replace(self, tables=tuple(t for t in tables if t.columns or t.refused is not None))

    def of_tenant(self, tenant: str) -> Protection:
        """Return the same for the sessions of one tenant."""
        if not tenant:
            return self
        tables = tuple(replace(t, columns={name: c.with_tenant(tenant) for name, c in t.columns.items()}) for t in self.tables)
        return replace(self, tables=tables)

    def of_listed(self, schema: str, table: str, name: str, path: str = "") -> ProtectedColumn:
        """Return a protected column by its name, or (``path``) a field of it; KeyError where there is none."""
        column = self.by_name[schema, table].columns[name]
        if not path:
            return column
        fields = column.document.fields if column.document is not None else ()
        return {field.path: field for field in fields}[path]

    def may_move(self, table_name: tuple[str, str], columns: Iterable[str], to: tuple[str, str]) -> bool:
        """Tell whether these columns of a table are protected alike under both of its names: then no moment is one too early."""
        before, after = self._numbers(table_name), self._numbers(to)
        return all(before.get(column) == after.get(column) for column in columns)

    def _numbers(self, table_name: tuple[str, str]) -> dict[str, int]:
        table = self.by_name.get(table_name)
        return {} if table is None else {column.name: column.number for column in table.columns.values()}

    @cached_property
    def by_name(self) -> dict[tuple[str, str], ProtectedTable]:
        """Protected tables by (schema, name)."""
        return {(t.schema, t.name): t for t in self.tables}

    @cached_property
    def has_documents(self) -> bool:
        """Whether a protected column is a document with sealed fields."""
        return any(c.document is not None for t in self.tables for c in t.columns.values())

    @cached_property
    def has_subjects(self) -> bool:
        """Whether the rows of a table are each about a subject."""
        return any(t.subject is not None for t in self.tables)

    @cached_property
    def table_names(self) -> frozenset[str]:
        """Last identifiers of the protected tables."""
        return frozenset(t.name for t in self.tables)

    @cached_property
    def type_names(self) -> frozenset[str]:
        """Names of the database's own types that protected columns have, without their schemas."""
        types = ((c.type.element or c.type) for t in self.tables for c in t.columns.values())
        return frozenset(split_identifiers(type_.name)[-1] for type_ in types if type_.schema or not type_.known)

    @cached_property
    def column_names(self) -> frozenset[str]:
        """Names of the protected columns."""
        return frozenset(c for t in self.tables for c in t.columns)
