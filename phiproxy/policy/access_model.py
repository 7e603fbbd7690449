"""``access:`` of policy.yaml (spec/configuration 3): who sees what of the protected columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from phiproxy.access.rules import AccessRules, BreakGlass, ColumnName, Rule
from phiproxy.access.shows import DENY, NULL, OPEN, USAGE, Show, read_show
from phiproxy.documents.field_paths import parse_path, spell_path
from phiproxy.policy.identifiers import split_identifiers
from phiproxy.policy.setting_values import FilePath, refuse
from phiproxy.policy.settings import Section

ALL_TABLES = "*"
_Role = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Roles = Annotated[tuple[_Role, ...], Field(min_length=1)]


def _show(value: str) -> str:
    try:
        read_show(value)
    except ValueError as error:
        refuse(str(error))
    return value


def _parts(value: str, count: int, form: str) -> str:
    try:
        parts = split_identifiers(value)
    except ValueError as error:
        refuse(str(error))
    if len(parts) != count:
        refuse(f"{value!r} must be written {form}")
    return value


def _table(value: str) -> str:
    return value if value == ALL_TABLES else _parts(value, 2, 'schema.table, or "*" for all that are protected')


def _column(value: str) -> str:
    return _parts(value, 3, "schema.table.column")


def _path(value: str) -> str:
    try:
        return spell_path(parse_path(value))
    except ValueError as error:
        refuse(str(error))


_Paths = Annotated[tuple[Annotated[str, AfterValidator(_path)], ...], Field(min_length=1)]


class AccessRule(Section):
    """What members of some roles see of some protected columns, and of some fields of documents."""

    roles: _Roles = Field(description="names of roles, whose members count; % stands for any characters")
    tables: tuple[Annotated[str, AfterValidator(_table)], ...] = Field(
        default=(), description='schema.table: all of its protected columns; "*": all tables'
    )
    columns: tuple[Annotated[str, AfterValidator(_column)], ...] = Field(default=(), description="schema.table.column")
    fields: dict[Annotated[str, AfterValidator(_column)], _Paths] = Field(
        default_factory=dict, description="schema.table.column of a document, with a list of paths of its fields"
    )
    show: Annotated[str, AfterValidator(_show)] = Field(description=USAGE)

    @model_validator(mode="after")
    def _of_something(self) -> AccessRule:
        if not (self.tables or self.columns or self.fields):
            refuse("a rule needs `tables`, `columns` or `fields`")
        return self

    def named_fields(self) -> Iterator[tuple[tuple[str, str | int, int], ColumnName]]:
        """Yield each field that is named, with its place in the rule."""
        for document, paths in self.fields.items():
            schema, table, column = split_identifiers(document)
            for at, path in enumerate(paths):
                yield ("fields", document, at), (schema, table, column + path)


class BreakGlassModel(Section):
    """Who may have masks lifted for a while by ``SET phiproxy.reason = '…'``."""

    roles: _Roles
    minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 60
    reason: Literal["required"] = "required"


class Tokens(Section):
    """How the signed token is verified that ``SET phiproxy.end_user`` gives (RFC 7519)."""

    jwks: FilePath = Field(description="file of the public keys (RFC 7517); read again with the policy")
    audience: Annotated[str, Field(min_length=1)]
    issuer: str | None = None
    claim: Annotated[str, Field(min_length=1)] = Field(default="sub", description="who the end user is")
    roles: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="the claim that has the names of roles, which count beside the session's own"
    )


class Names(NamedTuple):
    """What is protected: by each name of a column all that it has, and the same of each field of a document."""

    columns: Mapping[ColumnName, tuple[ColumnName, ...]]
    fields: Mapping[ColumnName, tuple[ColumnName, ...]]


class Access(Section):
    """Who sees what."""

    default: Literal["open", "mask", "deny"] = Field(
        default="open", description="for columns for which no rule names the role; mask: null"
    )
    rules: tuple[AccessRule, ...] = Field(
        default=(),
        description="for one role, those that name a column go before those that name its table; of all, what shows least holds",
    )
    break_glass: BreakGlassModel | None = None
    tokens: Tokens | None = None

    def read(self, names: Names, identities: Mapping[ColumnName, str]) -> AccessRules:
        """Return what this comes to."""
        glass = self.break_glass
        domains: dict[str, set[ColumnName]] = {}
        for name, identity in identities.items():
            domains.setdefault(identity, set()).add(name)
        rules = tuple(Rule(rule.roles, *_columns_of(rule, names), read_show(rule.show)) for rule in self.rules)
        return AccessRules(
            {"open": OPEN, "mask": NULL, "deny": DENY}[self.default],
            rules,
            frozenset(name for own in names.columns.values() for name in own),
            frozenset(name for own in names.fields.values() for name in own),
            tuple(frozenset(own) for own in domains.values() if len(own) > 1),
            BreakGlass(glass.roles, glass.minutes * 60) if glass is not None else None,
            tokens=self.tokens is not None,
        )

    def unknown(self, names: Names) -> list[tuple[tuple[str | int, ...], str]]:
        """Find what is named and not protected, each with its place below ``access`` in the file."""
        tables = {name[:2] for name in names.columns}
        found: list[tuple[tuple[str | int, ...], str]] = []
        for number, rule in enumerate(self.rules):
            for at, table in enumerate(rule.tables):
                if table != ALL_TABLES and tuple(split_identifiers(table)) not in tables:
                    found.append((("rules", number, "tables", at), f"no column of {table} is protected"))
            for at, column in enumerate(rule.columns):
                if tuple(split_identifiers(column)) not in names.columns:
                    found.append((("rules", number, "columns", at), f"{column} is not protected, and only such columns are masked"))
            for place, field in rule.named_fields():
                if field not in names.fields:
                    text = f"{'.'.join(field)} is no field that the policy lists, and only such fields are masked"
                    found.append((("rules", number, *place), text))
        return found

    def masks(self, names: Names) -> list[tuple[int, Show, frozenset[ColumnName]]]:
        """Return of each rule its number, what it shows, and of which columns and fields."""
        return [(n, read_show(rule.show), frozenset.union(*_columns_of(rule, names))) for n, rule in enumerate(self.rules)]


def _columns_of(rule: AccessRule, names: Names) -> tuple[frozenset[ColumnName], frozenset[ColumnName]]:
    """Return the columns and fields that a rule names, and the columns in tables that it names, under all of their names."""
    tables = {tuple(split_identifiers(table)) for table in rule.tables if table != ALL_TABLES}
    named = [names.columns[schema, table, column] for schema, table, column in map(split_identifiers, rule.columns)]
    named += [names.fields[field] for _, field in rule.named_fields()]
    inside = {
        one for name, own in names.columns.items() if ALL_TABLES in rule.tables or name[:2] in tables for one in own
    }
    return frozenset(one for own in named for one in own), frozenset(inside)
