"""The DDL that a policy needs, as text to read and to run; never run from here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from phiproxy.errors import ConfigError
from phiproxy.index.spelling import IDENTITY
from phiproxy.ops.leakage import declared_complaints
from phiproxy.ops.physical import (
    Physical,
    PhysicalColumn,
    PhysicalIndex,
    PhysicalTable,
    has_guard,
    is_tag_index,
    missing_tags,
)
from phiproxy.policy.bind import assemble, table_complaints
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.guards import guard, guard_name, hidden_column, hidden_index, tag
from phiproxy.policy.inherit import inherited_columns, with_descendants
from phiproxy.policy.layout import Layout
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.names import quote_ident, shorten
from phiproxy.policy.owntypes import same_name
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot, answering_slots
from phiproxy.policy.types import named_type

NOTHING = "-- nothing to do: the tables are as the policy needs them\n"

# What the text relies on: its literals are read without escapes, and no name in it is looked up in the application's schemas.
_HEAD = (
    "BEGIN;",
    "SET LOCAL standard_conforming_strings = on;",
    "SET LOCAL search_path = pg_catalog;",
    "SET LOCAL row_security = off;",
)
_NOT_IN_PLACE = (
    "and this version encrypts none in place: dump its data (pg_dump --data-only --table=…), TRUNCATE it, run `phiproxy keys init`"
    " and `phiproxy ddl`, and restore the dump through the proxy"
)
# NULL, or an envelope that stands for a constant (policy.guards).
_NULL_DEFAULT = re.compile(r"NULL(::[a-z ]+(\(\d+\))?)?|'\\xf55001[0-9a-f]+'::bytea")


def render_ddl(
    policy: Policy,
    layout: Layout,
    catalog: Catalog,
    physical: Physical,
    registry_schema: str = "phiproxy",
    leaks: list[str] | None = None,
    rows: Mapping[tuple[str, str], int] | None = None,
) -> str:
    """Return one transaction that makes the tables what the policy needs, or a comment when they are.

    ``physical`` is what ``read_physical`` read of the policy's tables, ``leaks`` what the stored tags say of low cardinality, which
    else is judged by what is declared, ``rows`` how many a table has. ConfigError with one line per complaint: what is not
    registered, not in this version, or has to be dropped or decided by a human first.
    """
    protection = assemble(policy, layout, registry_schema, catalog.types)
    columns = policy.columns()
    complaints = table_complaints(policy, layout, catalog) + (declared_complaints(columns) if leaks is None else leaks)
    if complaints:
        raise ConfigError("\n".join(dict.fromkeys(complaints)))
    plan = _Plan(rows or {})
    columns = [*columns, *inherited_columns(columns, catalog)]
    for table in with_descendants(protection, catalog).tables:
        own = [c for c in columns if (c.schema, c.table) == (table.schema, table.name)]
        if (found := physical.get((table.schema, table.name))) is not None:
            handed_down = _handed_down(catalog.by_name[table.schema, table.name], catalog, own)
            wanted = [(c, table.columns[c.name]) for c in own if c.name in found.columns]
            plan.add_table(found, wanted, handed_down, barred=catalog.by_name[table.schema, table.name].row_security)
    if plan.complaints:
        raise ConfigError("\n".join(dict.fromkeys(plan.complaints)))
    if not plan.lines:
        return NOTHING
    return "\n".join([f"-- for database {policy.database}", *_HEAD, *plan.lines, "COMMIT;"]) + "\n"


def _handed_down(relation: Relation, catalog: Catalog, columns: list[PolicyColumn]) -> _HandedDown:
    """Return which columns the server changes with a parent's, and whether their indexes come from there too."""
    parents = [catalog.by_oid[oid] for oid in relation.parents if oid in catalog.by_oid]
    inherited = frozenset(c.name for c in columns if any(parent.column(c.name) is not None for parent in parents))
    return _HandedDown(inherited, indexes=any(parent.kind == "p" for parent in parents))


@dataclass(frozen=True, slots=True)
class _HandedDown:
    """What a table has from a parent that is in the policy: columns with their guards, and of a partitioned one the indexes."""

    columns: frozenset[str]
    indexes: bool


def _same_kind(type_name: str, wanted: DeclaredType) -> bool:
    """Tell whether a column has the type that a policy says, whatever its length."""
    try:
        found = named_type(type_name)
    except ValueError:
        return False
    if not found.known or not wanted.known:
        return same_name(found.name, wanted.name)  # a type of the database's own, which the server names without a visible schema
    kinds = [(t.element or t).family for t in (found, wanted)]
    texts = {"text", "varchar"}
    return (found.element is None) == (wanted.element is None) and (kinds[0] == kinds[1] or texts.issuperset(kinds))


class _Plan:
    """Statements and complaints, table by table."""

    def __init__(self, rows: Mapping[tuple[str, str], int]) -> None:
        self._rows = rows
        self.lines: list[str] = []
        self.complaints: list[str] = []
        self._names: set[str] = set()

    def add_table(
        self, table: PhysicalTable, columns: list[tuple[PolicyColumn, ProtectedColumn]], handed_down: _HandedDown, *, barred: bool
    ) -> None:
        """Add what one table needs; ``barred``: with columns for its tags, since it has row-level security."""
        self._names |= {i.name for i in table.indexes}
        before: list[str] = []
        after: list[str] = []
        convert = False
        for wanted, column in columns:
            found = table.columns[column.name]
            self._check_obstacles(table, wanted, found)
            if column.name not in handed_down.columns:
                convert |= found.type_name != "bytea"
                before += self._column_lines(table, column, found)
            drops, creates = self._index_lines(table, wanted, column, missing=not handed_down.indexes)
            before = drops + before
            after += creates
            after += _hidden_lines(table, wanted, column) if barred else []
        if not before + after:
            return
        name = _table(table)
        self.lines += ["", f"-- {table.schema}.{table.name}".replace("\n", " ")]
        if convert:
            self.lines += [f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE;", _must_be_empty(name)]
        self.lines += before + after

    def _check_obstacles(self, table: PhysicalTable, wanted: PolicyColumn, found: PhysicalColumn) -> None:
        def complain(text: str) -> None:
            self.complaints.append(f"{wanted.at}: {text}")

        column, name = quote_ident(wanted.name), _table(table)
        if found.type_name != "bytea":
            if not _same_kind(found.type_name, wanted.type):
                complain(f"{wanted.label} is {found.type_name}, the policy says {wanted.type.name}")
            if found.nondeterministic:
                complain(f"{wanted.label} has a nondeterministic collation, by which different values are equal: tags cannot be")
            if table.has_rows:
                complain(f"{name} has {self._counted(table)} in plaintext, {_NOT_IN_PLACE}")
            for dependent in found.dependents:
                complain(f"{dependent} uses {wanted.label}: drop it first and create it again afterwards")
        if found.default is not None and not _NULL_DEFAULT.fullmatch(found.default):
            complain(
                f"a DEFAULT of {wanted.label} must be set through the proxy, afterwards:"
                f" ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT first"
            )
        for check in table.checks:
            if wanted.name in check.columns and check.name != guard_name(wanted.name) and found.type_name != "bytea":
                drop = f"ALTER TABLE {name} DROP CONSTRAINT {quote_ident(check.name)}"
                complain(
                    f"CHECK constraint {check.name} over {wanted.label} must be added through the proxy, afterwards: {drop} first"
                )

    def _counted(self, table: PhysicalTable) -> str:
        count = self._rows.get((table.schema, table.name))
        return "rows" if count is None else f"{count} rows"

    def _column_lines(self, table: PhysicalTable, column: ProtectedColumn, found: PhysicalColumn) -> list[str]:
        alter, c = f"ALTER TABLE {_table(table)}", quote_ident(column.name)
        lines = []
        if found.default is not None:
            lines.append(f"{alter} ALTER COLUMN {c} DROP DEFAULT;")
        name = quote_ident(guard_name(column.name))
        guarded = has_guard(table, column)
        if not guarded and any(k.name == guard_name(column.name) for k in table.checks):
            lines.append(f"{alter} DROP CONSTRAINT {name};")
        if found.type_name != "bytea":
            lines.append(f"{alter} ALTER COLUMN {c} TYPE bytea USING NULL::bytea;")
        if found.storage != "e" or found.type_name != "bytea":
            lines.append(f"{alter} ALTER COLUMN {c} SET STORAGE EXTERNAL;")
        if not guarded:
            lines.append(f"{alter} ADD CONSTRAINT {name} {guard(column)};")
        if column.type.not_null and not found.not_null:
            lines.append(f"{alter} ALTER COLUMN {c} SET NOT NULL;")
        return lines

    def _index_lines(
        self, table: PhysicalTable, wanted: PolicyColumn, column: ProtectedColumn, *, missing: bool
    ) -> tuple[list[str], list[str]]:
        """Return what drops the indexes that have to go, and what creates those that are ``missing``."""
        slots = answering_slots(column.slots, wanted.expressions)
        drops: list[str] = []
        creates: list[str] = []
        covered: set[str] = set()
        for index in table.indexes:
            if column.name not in index.columns or index.attached:
                continue
            answered = next((e for e, s in slots.items() if is_tag_index(index, column, s)), None)
            if answered is not None:
                covered.add(answered)
            elif table.columns[column.name].type_name == "bytea" and quote_ident(column.name) not in index.keys:
                continue  # over tags, beside other columns
            elif (text := self._obstacle(index, wanted, IDENTITY in slots)) is not None:
                self.complaints.append(f"{wanted.at}: {text}")
            else:
                drops.append(_drop(table, index))
                creates.append(_create(table, index.name, column, slots[IDENTITY], unique=index.unique))
                covered.add(IDENTITY)
        for expression, slot in slots.items():
            if missing and expression not in covered:
                creates.append(_create(table, self._fresh_name(column, slot), column, slot))
        return drops, creates

    def _obstacle(self, index: PhysicalIndex, wanted: PolicyColumn, indexed: bool) -> str | None:  # noqa: FBT001
        """Say why this index cannot become a tag index of the same name, or None."""
        what = "constraint" if index.constraint else "index"
        if index.primary:
            return f"a primary key over {wanted.label} ({index.name}) is not in this version"
        if not index.simple or index.keys != (quote_ident(wanted.name),):
            return f"{what} {index.name} over {wanted.label} cannot work on encrypted values: drop it first"
        if not indexed:
            return (
                f"{what} {index.name} over {wanted.label} needs a blind index: "
                f"add `indexes: [{quote_ident(wanted.name)}]` and run `phiproxy keys init`, or drop it"
            )
        return None

    def _fresh_name(self, column: ProtectedColumn, slot: Slot) -> str:
        digest = hashlib.sha256(repr((column.schema, column.table, column.name, slot.number)).encode()).hexdigest()[:8]
        plain = f"phi_tag_idx_{column.table}_{column.name}_{slot.number}"
        name = shorten(plain, digest)
        if name in self._names:
            name = shorten(f"{plain}_{digest}", digest)
        self._names.add(name)
        return name


def _hidden_lines(table: PhysicalTable, wanted: PolicyColumn, column: ProtectedColumn) -> list[str]:
    lines = []
    for slot in missing_tags(table, wanted, column):
        lines.append(f"ALTER TABLE {_table(table)} ADD COLUMN {hidden_column(column, slot)};")
        lines.append(hidden_index(column, slot, (table.schema, table.name)) + ";")
    return lines


def _table(table: PhysicalTable) -> str:
    return f"{quote_ident(table.schema)}.{quote_ident(table.name)}"


def _must_be_empty(name: str) -> str:
    """Return a statement that fails when rows came between the reading and the running: NULL would replace their values."""
    why = "the table has rows, whose values would be lost: empty it first (phiproxy ddl says how)"
    body = f"BEGIN IF EXISTS (SELECT FROM {name}) THEN RAISE '{why}'; END IF; END"
    quote = "$phi$"
    while quote in body:
        quote = quote[:-1] + "_$"
    return f"DO {quote} {body} {quote};"


def _drop(table: PhysicalTable, index: PhysicalIndex) -> str:
    if index.constraint:
        return f"ALTER TABLE {_table(table)} DROP CONSTRAINT {quote_ident(index.name)};"
    return f"DROP INDEX {quote_ident(table.schema)}.{quote_ident(index.name)};"


def _create(table: PhysicalTable, name: str, column: ProtectedColumn, slot: Slot, *, unique: bool = False) -> str:
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return f"CREATE {kind} {quote_ident(name)} ON {_table(table)} ({tag(column, slot)});"
