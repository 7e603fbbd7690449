"""The models of policy.yaml (spec/configuration 3) and what they mean, column by column. Knows no registry and no database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, PrivateAttr, StringConstraints, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from phiproxy.access.masks import complaint
from phiproxy.access.rules import AccessRules
from phiproxy.documents.field_paths import Path, parse_path, spell_path
from phiproxy.errors import ConfigError
from phiproxy.index.function_table import usages
from phiproxy.index.transform import short_type
from phiproxy.policy.access_model import Access, Names
from phiproxy.policy.column_types import parse_type
from phiproxy.policy.document_columns import (
    DocumentField,
    Fields,
    Others,
    PathText,
    check_document,
    may_be_field,
    may_be_indexed,
    path_complaints,
)
from phiproxy.policy.identifiers import quote_ident, shown_expression, split_identifiers
from phiproxy.policy.protection import Boundary, ColumnName, DeclaredType
from phiproxy.policy.registry_layout import WantedIdentity
from phiproxy.policy.setting_values import KekText, refuse
from phiproxy.policy.settings import Section

Location = tuple[str | int, ...]
Speller = Callable[[str, str, str], str]
"""Gives phiproxy's spelling of an expression over a column of a type: ``index_spelling.spell``, as only that floor has a parser."""

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _type(value: str) -> str:
    try:
        parse_type(value)
    except ValueError as error:
        refuse(str(error))
    return value


def _table_key(value: str) -> str:
    try:
        parts = split_identifiers(value)
    except ValueError as error:
        refuse(str(error))
    if len(parts) != 2:
        refuse(f"{value!r} must be written schema.table: which schema is never guessed")
    return value


def _column_key(value: str) -> str:
    try:
        parts = split_identifiers(value)
    except ValueError as error:
        refuse(str(error))
    if len(parts) != 1:
        refuse(f"{value!r} is not a column name; a name with a dot is written in quotes: '\"a.b\"'")
    return value


class _IndexSchema:
    """Shows in a JSON Schema the functions that an index may use, as they are in the table when it is made."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "description": f"@ is what is indexed, by its name: @, a cast of it, {', '.join(usages())}"}


_IndexText = Annotated[str, _IndexSchema()]
_TypeText = Annotated[str, AfterValidator(_type)]
_Distinct = Annotated[int, Field(ge=1)]


class TenantSource(Section):
    """Where a session's tenant comes from, fixed when it starts: the role that logs in, or a parameter of its startup message."""

    from_: Literal["role", "parameter"] = Field(alias="from")
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_.]*$")] | None = Field(
        default=None, description="of the parameter, for example app.tenant"
    )
    keks: dict[_Name, KekText] = Field(default_factory=dict, description="tenant -> its own KEK URI; the others share keys.kek")

    @model_validator(mode="after")
    def _named(self) -> TenantSource:
        if (self.from_ == "parameter") != (self.name is not None):
            refuse("a tenant from a parameter needs the parameter's name, and one from the role takes none")
        return self


class Domain(Section):
    """One logical column that appears in several tables."""

    type: _TypeText
    indexes: tuple[_IndexText, ...] = Field(default=(), description="SQL expressions over `value`")
    distinct: _Distinct | dict[str, _Distinct] | None = Field(default=None, description="declared number of distinct values")
    accept_leakage: _Name | None = Field(default=None, description="who accepts a low-cardinality index, and why")
    pad: Annotated[int, Field(ge=2, le=65536)] | None = None


class Column(Section):
    """One protected column: a ``domain`` and nothing else, or its own description."""

    domain: str | None = None
    type: _TypeText | None = None
    id: _Name | None = Field(default=None, description="the stable name of this column in every stored value")
    indexes: tuple[_IndexText, ...] = Field(default=(), description="SQL expressions over the column")
    distinct: _Distinct | dict[str, _Distinct] | None = Field(default=None, description="declared number of distinct values")
    accept_leakage: _Name | None = Field(default=None, description="who accepts a low-cardinality index, and why")
    pad: Annotated[int, Field(ge=2, le=65536)] | None = None
    renamed_to: Annotated[str, AfterValidator(_column_key)] | None = Field(
        default=None, description="its other name, before a migration renames it and until the policy does"
    )
    fields: Fields | None = Field(
        default=None, description="of a jsonb: path to a field that is sealed where it stands, while the column stays jsonb"
    )
    others: Others | None = Field(default=None, description="with `fields`: what becomes of every other value of the document")
    clear: tuple[PathText, ...] = Field(default=(), description="with `others: sealed`: the paths that stay in clear")

    @model_validator(mode="after")
    def _one_of(self) -> Column:
        other = ", ".join(sorted(self.model_fields_set - {"domain", "renamed_to"}))
        if self.domain is not None and other:
            refuse(f"a column with a domain has nothing else: move {other} to the domain")
        if self.domain is None and self.type is None:
            refuse("a column needs a type or a domain")
        if self.fields is not None:
            single = ("indexes", "distinct", "accept_leakage", "pad", "renamed_to")
            unused = {name: None for name in single if name in self.model_fields_set}
            check_document(self.type, self.others, self.clear, unused)
        elif self.others is not None or self.clear:
            refuse("`others` and `clear` are of a column with `fields`")
        return self


_ColumnKey = Annotated[str, AfterValidator(_column_key)]
_TableKey = Annotated[str, AfterValidator(_table_key)]


class Table(Section):
    """One table: its protected columns, those that are let go, or that it is in clear though it is named like a protected one."""

    columns: dict[_ColumnKey, Column] = Field(default_factory=dict)
    renamed_to: _TableKey | None = Field(
        default=None, description="its other name, with its schema, before a migration renames it and until the policy does"
    )
    released: tuple[_ColumnKey, ...] = Field(
        default=(), description="columns that were protected and are let go: what is stored in them passes as it is"
    )
    clear: bool = Field(
        default=False, description="true: holds no protected values, though it is named like a protected table and its columns"
    )
    subject: _ColumnKey | None = Field(
        default=None, description="the column that says whom a row is about, for the audit log; protected or not"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Table:
        if not (self.columns or self.released or self.clear):
            refuse("a table needs `columns`, `released` or `clear: true`")
        if self.clear and self.columns:
            refuse("a table with protected columns is not in clear: leave out `columns` or `clear`")
        if self.renamed_to is not None and not self.columns:
            refuse("`renamed_to` is of a table with protected columns")
        if self.subject is not None and not self.columns:
            refuse("`subject` is of a table with protected columns")
        return self


class Complaint(NamedTuple):
    """One thing that is wrong, and where in the file."""

    location: Location
    text: str


@dataclass(frozen=True, slots=True)
class PolicyColumn:
    """One protected column as the policy means it, its domain resolved. ``expressions`` are in phiproxy's own spelling.

    ``distinct`` is the declared number per expression; ``at`` is ``file:line:column`` of the column's key.

    A jsonb whose fields are sealed one by one has ``fields``, each of which is described like a column, with its ``path``;
    ``others_sealed``: so is all else in it, but for what is at or below the paths of ``clear``.
    """

    schema: str
    table: str
    name: str
    identity: str
    scope: str
    type: DeclaredType
    expressions: tuple[str, ...]
    pad: int | None
    distinct: Mapping[str, int]
    accept_leakage: str | None
    at: str
    path: Path = ()
    fields: tuple[PolicyColumn, ...] = ()
    others_sealed: bool = False
    clear: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """``schema.table.column`` for messages, with the path behind it of a field."""
        return ".".join(self.registered_name)

    @property
    def registered_name(self) -> tuple[str, str, str]:
        """The name under which the key registry knows it: of a field the column's with the path behind it."""
        return self.schema, self.table, self.name + (spell_path(self.path) if self.path else "")

    @property
    def listed_as(self) -> tuple[str, str, str, str]:
        """Schema, table and column, and the path of a field as it is spelled, by which a protection has it (``of_listed``)."""
        return self.schema, self.table, self.name, spell_path(self.path) if self.path else ""

    def shown(self, expression: str) -> str:
        """Return one of its index expressions as a DBA writes it."""
        return shown_expression(expression, "value" if self.path else quote_ident(self.name))

    def without(self, names: Collection[ColumnName]) -> PolicyColumn:
        """Return the column without the fields of these registered names."""
        fields = tuple(field for field in self.fields if field.registered_name not in names)
        return self if len(fields) == len(self.fields) else replace(self, fields=fields)

    def with_fields(self) -> Iterator[PolicyColumn]:
        """Yield the column, and its fields."""
        yield self
        yield from self.fields


class Policy(Section):
    """policy.yaml as a whole: what is protected in one database."""

    database: _Name
    deployment: _Name = Field(description="stable name, bound into every stored value")
    tenant: TenantSource | None = Field(default=None, description="where each session's tenant comes from; null: there are none")
    domains: dict[str, Domain] = Field(default_factory=dict)
    tables: dict[_TableKey, Table] = Field(default_factory=dict)
    access: Access | None = Field(default=None, description="who sees what of the protected columns; null: whoever may SELECT")

    _positions: Mapping[Location, str] = PrivateAttr(default_factory=dict)
    _source: str = PrivateAttr(default="policy")
    _spell: Speller = PrivateAttr()

    def at(self, *location: str | int) -> str:
        """``file:line:column`` of a place in the file, or of the nearest place around it that is known."""
        for end in range(len(location), -1, -1):
            if (position := self._positions.get(location[:end])) is not None:
                return position
        return self._source

    def spelled_by(self, spell: Speller) -> Policy:
        """Return this policy, knowing who reads its index expressions: the parser is a floor further up."""
        self._spell = spell
        self.__dict__.pop("_columns", None)
        return self

    def spell(self, text: str, over: str, type_name: str) -> str:
        """Return phiproxy's spelling of one of its index expressions."""
        return self._spell(text, over, type_name)

    def located(self, source: str, positions: Mapping[Location, str]) -> Policy:
        """Return this policy, remembering where it was read from."""
        self._source = source
        self._positions = positions
        self.__dict__.pop("_columns", None)
        return self

    def columns(self) -> list[PolicyColumn]:
        """Every protected column under each of its names, in the order of the file. The policy must be free of complaints."""
        return list(self._columns)

    @cached_property
    def _columns(self) -> tuple[PolicyColumn, ...]:
        """They are asked for ten times whenever a catalogue was read."""
        columns = []
        for key, name, column in self._each():
            first = _resolve(self, key, name, column)
            for schema, table, bare in self._names(key, name, column):
                fields = tuple(replace(f, schema=schema, table=table, name=bare) for f in first.fields)
                columns.append(replace(first, schema=schema, table=table, name=bare, fields=fields))
        return tuple(columns)

    def _names_that_are_protected(self) -> Names:
        """Return all names that columns and fields have, by ``renamed_to``; a field whose path is none is left out."""
        columns: dict[ColumnName, tuple[ColumnName, ...]] = {}
        fields: dict[ColumnName, tuple[ColumnName, ...]] = {}
        for key, name, column in self._each():
            names = tuple(self._names(key, name, column))
            columns.update(dict.fromkeys(names, names))
            for text in column.fields or ():
                with suppress(ValueError):
                    path = spell_path(parse_path(text))
                    behind = tuple((schema, table, bare + path) for schema, table, bare in names)
                    fields.update(dict.fromkeys(behind, behind))
        return Names(columns, fields)

    def access_rules(self) -> AccessRules | None:
        """Return who sees what, or None where everybody sees everything that he may SELECT."""
        if self.access is None:
            return None
        return self.access.read(
            self._names_that_are_protected(), {c.registered_name: c.identity for c in self.columns_and_fields()}
        )

    def access_complaints(self, types: Mapping[ColumnName, DeclaredType]) -> Iterator[str]:
        """Yield ``file:line:column: text`` for each mask that does not fit the type of a column or field that it is for."""
        if self.access is None:
            return
        types = {**{c.registered_name: c.type for c in self.columns_and_fields() if c.path}, **types}
        for number, show, columns in self.access.masks(self._names_that_are_protected()):
            for column in sorted(columns & types.keys()):
                why = complaint(show, types[column])
                if why is not None:
                    yield f"{self.at('access', 'rules', number, 'show')}: {'.'.join(column)}: {why}"

    def subjects(self) -> dict[tuple[str, str], str]:
        """Return by (schema, table), under each of its names, the column that says whom a row is about."""
        subjects: dict[tuple[str, str], str] = {}
        for key, table in self.tables.items():
            if table.subject is not None:
                for name in (key, *([table.renamed_to] if table.renamed_to is not None else ())):
                    schema, bare = split_identifiers(name)
                    subjects[schema, bare] = split_identifiers(table.subject)[0]
        return subjects

    def columns_and_fields(self) -> list[PolicyColumn]:
        """Every protected column, and behind a document each of its fields."""
        return [each for column in self.columns() for each in column.with_fields()]

    def boundary(self, registered: Iterable[ColumnName]) -> Boundary:
        """Return what this policy lets go of, beside the columns that the registry knows."""
        released: set[ColumnName] = set()
        clear: set[tuple[str, str]] = set()
        for key, table in self.tables.items():
            for name in (key, *([table.renamed_to] if table.renamed_to is not None else ())):
                schema, bare = split_identifiers(name)
                released |= {(schema, bare, split_identifiers(column)[0]) for column in table.released}
                clear |= {(schema, bare)} if table.clear else set()
        return Boundary(frozenset(registered), frozenset(released), frozenset(clear))

    def wanted_identities(self, indexed_as: Callable[[DeclaredType], str] = lambda type_: type_.name) -> list[WantedIdentity]:
        """List what ``keys init`` registers: one per domain in use and one per column without a domain.

        ``indexed_as`` tells what a type of the database's own is over.
        """
        groups: dict[str, list[PolicyColumn]] = {}
        for column in self.columns_and_fields():
            groups.setdefault(column.identity, []).append(column)
        return [
            WantedIdentity(
                identity=identity,
                scope=members[0].scope,
                type_name=members[0].type.name,
                expressions=members[0].expressions,
                columns=tuple(c.registered_name for c in members),
                indexed_as=indexed_as(members[0].type),
            )
            for identity, members in groups.items()
        ]

    def complaints(self) -> list[Complaint]:
        """Find what no single key shows: index expressions, unknown domains, names that mean the same twice."""
        complaints: list[Complaint] = []
        for name, domain in self.domains.items():
            complaints += _index_complaints(self._spell, ("domains", name), domain, "value")
        seen: dict[tuple[str, ...], str] = {}
        identities: dict[str, str] = {}
        for key, name, column in self._each():
            where: Location = ("tables", key, "columns", name)
            for names in self._names(key, name, column):
                if names in seen:
                    complaints.append(Complaint(where, f"this column is already protected as {seen[names]}"))
                seen[names] = f"{key}.{name}"
            if column.domain is not None:
                if column.domain not in self.domains:
                    domains = ", ".join(self.domains) or "none"
                    text = f"there is no domain {column.domain!r} (domains: {domains})"
                    complaints.append(Complaint((*where, "domain"), text))
                continue
            identity = _identity(key, name, column)
            if identity in identities:
                complaints.append(Complaint((*where, "id"), f"this id is already that of {identities[identity]}"))
            identities[identity] = f"{key}.{name}"
            complaints += _index_complaints(self._spell, where, column, split_identifiers(name)[0])
            complaints += self._field_complaints(where, key, name, column, identities)
        if self.access is not None:
            unknown = self.access.unknown(self._names_that_are_protected())
            complaints += [Complaint(("access", *where), text) for where, text in unknown]
        return [*complaints, *self._released_complaints(seen)]

    def _field_complaints(
        self, where: Location, key: str, name: str, column: Column, identities: dict[str, str]
    ) -> Iterator[Complaint]:
        """Find what is wrong with the fields of a document; ``identities`` are those before, to which theirs are added."""
        fields = column.fields or {}
        for place, text in path_complaints(fields, column.clear):
            yield Complaint((*where, *place), text)
        for path, described in fields.items():
            own: Location = (*where, "fields", path)
            if described.domain is not None:
                domain = self.domains.get(described.domain)
                if domain is None:
                    domains = ", ".join(self.domains) or "none"
                    yield Complaint((*own, "domain"), f"there is no domain {described.domain!r} (domains: {domains})")
                elif not may_be_field(parse_type(domain.type)):
                    yield Complaint((*own, "domain"), f"domain {described.domain} is of a type that no field of a document has")
                continue
            identity = _field_identity(key, name, column, path, described)
            if identity in identities:
                yield Complaint((*own, "id"), f"this id is already that of {identities[identity]}")
            identities[identity] = f"{key}.{name} {path}"
            if described.indexes and not may_be_indexed(parse_path(path)):
                yield Complaint((*own, "indexes"), "what stands in an array has no index in this version")
            else:
                yield from _index_complaints(self._spell, own, described, "value")

    def _released_complaints(self, protected: Mapping[tuple[str, ...], str]) -> Iterator[Complaint]:
        """Find columns that are protected and let go at once; ``protected`` are the names of columns, as the file spells them."""
        for key, table in self.tables.items():
            for number, column in enumerate(table.released):
                name = protected.get((*split_identifiers(key), *split_identifiers(column)))
                if name is not None:
                    yield Complaint(("tables", key, "released", number), f"{name} is protected: it cannot be released too")

    def _each(self) -> Iterator[tuple[str, str, Column]]:
        for key, table in self.tables.items():
            for name, column in table.columns.items():
                yield key, name, column

    def _names(self, key: str, name: str, column: Column) -> list[tuple[str, str, str]]:
        """Return (schema, table, column) of a column, and of what ``renamed_to`` says of it and of its table."""
        tables, columns = (key, self.tables[key].renamed_to), (name, column.renamed_to)
        pairs = [(split_identifiers(t), split_identifiers(c)) for t in tables if t is not None for c in columns if c is not None]
        return [(schema, table, bare) for (schema, table), (bare,) in pairs]


def _identity(key: str, name: str, column: Column) -> str:
    parts = (*split_identifiers(key), *split_identifiers(name))
    return "c:" + (column.id if column.id is not None else ".".join(quote_ident(p) for p in parts))


def _field_identity(key: str, name: str, column: Column, path: str, described: DocumentField) -> str:
    return "c:" + (described.id if described.id is not None else _identity(key, name, column)[2:] + spell_path(parse_path(path)))


def _index_complaints(spell: Speller, where: Location, described: Domain | Column | DocumentField, column: str) -> list[Complaint]:
    complaints: list[Complaint] = []
    spelled: set[str] = set()
    type_ = parse_type(described.type) if described.type is not None else _TEXT
    for number, text in enumerate(described.indexes):
        try:
            expression = _spelled(spell, text, column, type_)
        except ConfigError as error:
            complaints.append(Complaint((*where, "indexes", number), error.message))
            continue
        if expression in spelled:
            complaints.append(Complaint((*where, "indexes", number), f"{text!r} is the same index again"))
        spelled.add(expression)
    if isinstance(described.distinct, dict):
        complaints += [
            Complaint((*where, "distinct", text), f"{text!r} is not one of the indexes of this column")
            for text in described.distinct
            if text not in described.indexes
        ]
    return complaints


_TEXT = DeclaredType.builtin("text")
# What a domain may be over whose catalogue is not at hand; what is not right over the one that it is said once that is known.
_BASES = ("text", "date", "timestamp", "timestamptz", "int4")


def _spelled(spell: Speller, text: str, over: str, type_: DeclaredType) -> str:
    """Return the spelling of an index expression; ConfigError for what is none over this type."""
    if type_.known or short_type(type_.name.removesuffix("[]")) == "citext":
        return spell(text, over, type_.name)
    for base in _BASES:
        with suppress(ConfigError):
            return spell(text, over, base)
    return spell(text, over, "text")


def _resolve(policy: Policy, key: str, name: str, column: Column) -> PolicyColumn:
    schema, table = split_identifiers(key)
    (bare,) = split_identifiers(name)
    own = _Named(schema, table, bare, f"t:{quote_ident(schema)}.{quote_ident(table)}")
    at = ("tables", key, "columns", name)
    resolved = _described(policy, own, column, _identity(key, name, column), bare, at)
    fields = tuple(
        replace(
            _described(policy, own, described, _field_identity(key, name, column, text, described), "value", (*at, "fields", text)),
            path=parse_path(text),
        )
        for text, described in (column.fields or {}).items()
    )
    clear = tuple(map(parse_path, column.clear))
    return replace(resolved, fields=fields, others_sealed=column.others == "sealed", clear=clear)


class _Named(NamedTuple):
    """The names of a column, and the scope of the keys of its table."""

    schema: str
    table: str
    column: str
    scope: str


def _described(
    policy: Policy, names: _Named, column: Column | DocumentField, identity: str, over: str, at: Location
) -> PolicyColumn:
    """Return a column or field as the policy means it; its domain decides where it has one."""
    described: Domain | Column | DocumentField = column
    scope = names.scope
    if column.domain is not None:
        described, over = policy.domains[column.domain], "value"
        identity = scope = f"d:{column.domain}"
    assert described.type is not None  # the model refuses what has neither type nor domain
    type_ = parse_type(described.type)
    expressions = {_spelled(policy.spell, text, over, type_): text for text in described.indexes}
    declared = described.distinct
    distinct = (
        {e: declared[t] for e, t in expressions.items() if t in declared}
        if isinstance(declared, dict)
        else {e: declared for e in expressions if declared is not None}
    )
    return PolicyColumn(
        schema=names.schema,
        table=names.table,
        name=names.column,
        identity=identity,
        scope=scope,
        type=type_,
        expressions=tuple(expressions),
        pad=described.pad,
        distinct=distinct,
        accept_leakage=described.accept_leakage,
        at=policy.at(*at),
    )
