"""The models of policy.yaml (config.md section 2) and what they mean, column by column.

Knows no registry and no database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, PrivateAttr, StringConstraints, model_validator

from phiproxy.errors import ConfigError
from phiproxy.index.transform import short_type
from phiproxy.policy import kek
from phiproxy.policy.layout import WantedIdentity
from phiproxy.policy.names import quote_ident, split_identifiers
from phiproxy.policy.protection import Boundary, DeclaredType, Place
from phiproxy.policy.settings import Section
from phiproxy.policy.types import parse_type
from phiproxy.policy.values import refuse

Location = tuple[str | int, ...]
Speller = Callable[[str, str, str], str]
"""Gives phiproxy's spelling of an expression over a column of a type: ``sql.spelling.spell``, as only that floor has a parser."""

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


def _kek(value: str) -> str:
    wrong = kek.complaint(value)
    if wrong is not None:
        refuse(wrong)
    return value


_TypeText = Annotated[str, AfterValidator(_type)]
_Distinct = Annotated[int, Field(ge=1)]


class TenantSource(Section):
    """Where a session's tenant comes from, fixed when it starts: the role that logs in, or a parameter of its startup message."""

    from_: Literal["role", "parameter"] = Field(alias="from")
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_.]*$")] | None = Field(
        default=None, description="of the parameter, for example app.tenant"
    )
    keks: dict[_Name, Annotated[str, AfterValidator(_kek)]] = Field(
        default_factory=dict, description="tenant -> its own KEK URI; the others share keys.kek"
    )

    @model_validator(mode="after")
    def _named(self) -> TenantSource:
        if (self.from_ == "parameter") != (self.name is not None):
            refuse("a tenant from a parameter needs the parameter's name, and one from the role takes none")
        return self


class Domain(Section):
    """One logical column that appears in several tables."""

    type: _TypeText
    indexes: tuple[str, ...] = Field(default=(), description="SQL expressions over `value`")
    distinct: _Distinct | dict[str, _Distinct] | None = Field(default=None, description="declared number of distinct values")
    accept_leakage: _Name | None = Field(default=None, description="who accepts a low-cardinality index, and why")
    pad: Annotated[int, Field(ge=2, le=65536)] | None = None


class Column(Section):
    """One protected column: a ``domain`` and nothing else, or its own description."""

    domain: str | None = None
    type: _TypeText | None = None
    id: _Name | None = Field(default=None, description="the stable name of this column in every stored value")
    indexes: tuple[str, ...] = Field(default=(), description="SQL expressions over the column")
    distinct: _Distinct | dict[str, _Distinct] | None = Field(default=None, description="declared number of distinct values")
    accept_leakage: _Name | None = Field(default=None, description="who accepts a low-cardinality index, and why")
    pad: Annotated[int, Field(ge=2, le=65536)] | None = None
    renamed_to: Annotated[str, AfterValidator(_column_key)] | None = Field(
        default=None, description="its other name, before a migration renames it and until the policy does"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Column:
        other = ", ".join(sorted(self.model_fields_set - {"domain", "renamed_to"}))
        if self.domain is not None and other:
            refuse(f"a column with a domain has nothing else: move {other} to the domain")
        if self.domain is None and self.type is None:
            refuse("a column needs a type or a domain")
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

    @model_validator(mode="after")
    def _says_something(self) -> Table:
        if not (self.columns or self.released or self.clear):
            refuse("a table needs `columns`, `released` or `clear: true`")
        if self.clear and self.columns:
            refuse("a table with protected columns is not in clear: leave out `columns` or `clear`")
        if self.renamed_to is not None and not self.columns:
            refuse("`renamed_to` is of a table with protected columns")
        return self


class Complaint(NamedTuple):
    """One thing that is wrong, and where in the file."""

    location: Location
    text: str


@dataclass(frozen=True, slots=True)
class PolicyColumn:
    """One protected column as the policy means it, its domain resolved. ``expressions`` are in phiproxy's own spelling.

    ``distinct`` is the declared number per expression; ``at`` is ``file:line:column`` of the column's key.
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

    @property
    def label(self) -> str:
        """``schema.table.column`` for messages."""
        return f"{self.schema}.{self.table}.{self.name}"


class Policy(Section):
    """policy.yaml as a whole: what is protected in one database."""

    database: _Name
    deployment: _Name = Field(description="stable name, bound into every stored value")
    tenant: TenantSource | None = Field(default=None, description="where each session's tenant comes from; null: there are none")
    domains: dict[str, Domain] = Field(default_factory=dict)
    tables: dict[_TableKey, Table] = Field(default_factory=dict)

    _places: Mapping[Location, str] = PrivateAttr(default_factory=dict)
    _source: str = PrivateAttr(default="policy")
    _spell: Speller = PrivateAttr()

    def at(self, *location: str | int) -> str:
        """``file:line:column`` of a place in the file, or of the nearest place around it that is known."""
        for end in range(len(location), -1, -1):
            if (place := self._places.get(location[:end])) is not None:
                return place
        return self._source

    def spelled_by(self, spell: Speller) -> Policy:
        """Return this policy, knowing who reads its index expressions: the parser is a floor further up."""
        self._spell = spell
        return self

    def spell(self, text: str, over: str, type_name: str) -> str:
        """Return phiproxy's spelling of one of its index expressions."""
        return self._spell(text, over, type_name)

    def located(self, source: str, places: Mapping[Location, str]) -> Policy:
        """Return this policy, remembering where it was read from."""
        self._source = source
        self._places = places
        return self

    def columns(self) -> list[PolicyColumn]:
        """Every protected column under each of its names, in the order of the file. The policy must be free of complaints."""
        found = []
        for key, name, column in self._each():
            first = _resolve(self, key, name, column)
            found += [replace(first, schema=s, table=t, name=c) for s, t, c in self._names(key, name, column)]
        return found

    def boundary(self, registered: Iterable[Place]) -> Boundary:
        """Return what this policy lets go of, beside the columns that the registry knows."""
        released: set[Place] = set()
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
        for column in self.columns():
            groups.setdefault(column.identity, []).append(column)
        return [
            WantedIdentity(
                identity=identity,
                scope=members[0].scope,
                type_name=members[0].type.name,
                expressions=members[0].expressions,
                columns=tuple((c.schema, c.table, c.name) for c in members),
                indexed_as=indexed_as(members[0].type),
            )
            for identity, members in groups.items()
        ]

    def complaints(self) -> list[Complaint]:
        """Find what no single key shows: index expressions, unknown domains, names that mean the same twice."""
        found: list[Complaint] = []
        for name, domain in self.domains.items():
            found += _index_complaints(self._spell, ("domains", name), domain, "value")
        seen: dict[tuple[str, ...], str] = {}
        identities: dict[str, str] = {}
        for key, name, column in self._each():
            where: Location = ("tables", key, "columns", name)
            for names in self._names(key, name, column):
                if names in seen:
                    found.append(Complaint(where, f"this column is already protected as {seen[names]}"))
                seen[names] = f"{key}.{name}"
            if column.domain is not None:
                if column.domain not in self.domains:
                    known = ", ".join(self.domains) or "none"
                    text = f"there is no domain {column.domain!r} (domains: {known})"
                    found.append(Complaint((*where, "domain"), text))
                continue
            identity = _identity(key, name, column)
            if identity in identities:
                found.append(Complaint((*where, "id"), f"this id is already that of {identities[identity]}"))
            identities[identity] = f"{key}.{name}"
            found += _index_complaints(self._spell, where, column, split_identifiers(name)[0])
        return [*found, *self._released_complaints(seen)]

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


def _index_complaints(spell: Speller, where: Location, described: Domain | Column, column: str) -> list[Complaint]:
    found: list[Complaint] = []
    spelled: set[str] = set()
    type_ = parse_type(described.type) if described.type is not None else _TEXT
    for number, text in enumerate(described.indexes):
        try:
            expression = _spelled(spell, text, column, type_)
        except ConfigError as error:
            found.append(Complaint((*where, "indexes", number), error.message))
            continue
        if expression in spelled:
            found.append(Complaint((*where, "indexes", number), f"{text!r} is the same index again"))
        spelled.add(expression)
    if isinstance(described.distinct, dict):
        found += [
            Complaint((*where, "distinct", text), f"{text!r} is not one of the indexes of this column")
            for text in described.distinct
            if text not in described.indexes
        ]
    return found


_TEXT = DeclaredType("text", 25)
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
    described: Domain | Column = column
    if column.domain is None:
        identity, over = _identity(key, name, column), bare
        scope = f"t:{quote_ident(schema)}.{quote_ident(table)}"
    else:
        described, identity, over = policy.domains[column.domain], f"d:{column.domain}", "value"
        scope = f"d:{column.domain}"
    assert described.type is not None  # the model refuses a column with neither type nor domain
    type_ = parse_type(described.type)
    expressions = {_spelled(policy.spell, text, over, type_): text for text in described.indexes}
    declared = described.distinct
    distinct = (
        {e: declared[t] for e, t in expressions.items() if t in declared}
        if isinstance(declared, dict)
        else {e: declared for e in expressions if declared is not None}
    )
    return PolicyColumn(
        schema=schema,
        table=table,
        name=bare,
        identity=identity,
        scope=scope,
        type=type_,
        expressions=tuple(expressions),
        pad=described.pad,
        distinct=distinct,
        accept_leakage=described.accept_leakage,
        at=policy.at("tables", key, "columns", name),
    )
