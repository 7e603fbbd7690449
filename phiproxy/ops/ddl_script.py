"""The DDL that a policy needs, as text to read and to run; never run from here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from phiproxy.errors import ConfigError
from phiproxy.index.spelling import IDENTITY
from phiproxy.ops.ddl_documents import document_complaint, missing_indexes
from phiproxy.ops.leakage import declared_complaints
from phiproxy.ops.physical_tables import (
    Physical,
    PhysicalCheck,
    PhysicalColumn,
    PhysicalIndex,
    PhysicalTable,
    has_guard,
    is_tag_index,
    missing_tags,
)
from phiproxy.policy.bind import assemble, table_complaints
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.column_states import clear_columns, clear_fields
from phiproxy.policy.column_types import named_type
from phiproxy.policy.identifiers import literal, quote_ident, shorten, yaml_text
from phiproxy.policy.inheritance import inherited_columns, with_descendants
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.physical_columns import hidden_column, hidden_index, tag
from phiproxy.policy.physical_documents import bare_path
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import ColumnName, DeclaredType, ProtectedColumn, Slot, answering_slots
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.user_types import same_name

NOTHING = "-- nothing to do: the tables are as the policy needs them\n"

# What the text relies on: its literals are read without escapes, and no name in it is looked up in the application's schemas.
_HEAD = (
    "BEGIN;",
    "SET LOCAL standard_conforming_strings = on;",
    "SET LOCAL search_path = pg_catalog;",
    "SET LOCAL row_security = off;",
)
_NOT_IN_PLACE = "which `phiproxy encrypt` seals in place"
_IN_KEY = "is in a foreign key: drop it first and add it through the proxy afterwards, or let `phiproxy encrypt` convert both"
_IN_CLEAR = "is in clear, and its table has rows: `phiproxy encrypt` seals it"
# NULL, or an envelope that stands for a constant, or for the text of an expression (policy.physical_columns).
_NULL = r"NULL(::[a-z ]+(\(\d+\))?)?"
_ENVELOPE = r"'\\xf55001[0-9a-f]+'::bytea"
_COMPUTED = rf"decode\(encode\({_ENVELOPE}, 'base64'::text\), 'hex'::text\)"
_NULL_DEFAULT = re.compile(f"{_NULL}|{_ENVELOPE}|{_COMPUTED}")
_SEALED_DEFAULT = re.compile(f"{_ENVELOPE}|{_COMPUTED}")


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
    protection = assemble(policy, layout, registry_schema, catalog.types, clear_fields(policy, layout, catalog))
    columns = policy.columns()
    leaks = declared_complaints(policy.columns_and_fields()) if leaks is None else leaks
    complaints = table_complaints(policy, layout, catalog) + leaks
    if complaints:
        raise ConfigError("\n".join(dict.fromkeys(complaints)))
    plan = _Plan(rows or {})
    in_clear = _filled(policy, layout, catalog, physical)
    columns = [c for c in columns if (c.schema, c.table, c.name) not in in_clear]
    columns = [*columns, *inherited_columns(columns, catalog)]
    for table in with_descendants(protection, catalog).tables:
        own = [c for c in columns if (c.schema, c.table) == (table.schema, table.name)]
        if (physical_table := physical.get((table.schema, table.name))) is not None:
            handed_down = _handed_down(catalog.by_name[table.schema, table.name], catalog, own)
            wanted = [(c, table.columns[c.name]) for c in own if c.name in physical_table.columns]
            keys = catalog.by_name[table.schema, table.name].key_columns
            plan.complaints += [f"{c.at}: {c.label} {_IN_KEY}" for c, _ in wanted if c.name in keys]
            plan.add_table(physical_table, wanted, handed_down, barred=catalog.by_name[table.schema, table.name].row_security)
    if plan.complaints:
        raise ConfigError("\n".join(dict.fromkeys(plan.complaints)))
    notes = [f"-- {'.'.join(name)} {_IN_CLEAR}".replace("\n", " ") for name in in_clear]
    if not plan.lines:
        return "\n".join([*notes, NOTHING])
    plan.lines += ["", *notes] if notes else []
    return "\n".join([f"-- for database {policy.database}", *_HEAD, *plan.lines, "COMMIT;"]) + "\n"


def _filled(policy: Policy, layout: Layout, catalog: Catalog, physical: Physical) -> list[ColumnName]:
    """Return the columns that are in clear, as the registry lets them be, in tables that have rows."""
    names = sorted(clear_columns(policy, layout, catalog))
    return [name for name in names if (table := physical.get(name[:2])) is not None and table.has_rows]


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
        declared = named_type(type_name)
    except ValueError:
        return False
    if not declared.known or not wanted.known:
        return same_name(declared.name, wanted.name)  # the database's own, which the server names without a visible schema
    kinds = [(t.element or t).family for t in (declared, wanted)]
    texts = {"text", "varchar"}
    return (declared.element is None) == (wanted.element is None) and (kinds[0] == kinds[1] or texts.issuperset(kinds))


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
            current = table.columns[column.name]
            if column.document is not None:
                after += self._document_lines(table, wanted, column, current, handed_down)
                continue
            self._check_obstacles(table, wanted, current)
            if column.name not in handed_down.columns:
                convert |= current.type_name != "bytea"
                before += self._column_lines(table, column, current)
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

    def _document_lines(
        self,
        table: PhysicalTable,
        wanted: PolicyColumn,
        column: ProtectedColumn,
        current: PhysicalColumn,
        handed_down: _HandedDown,
    ) -> list[str]:
        """Return what a document with sealed fields needs: its guard, and the indexes of its fields. It stays as it is."""
        guarded = has_guard(table, column)
        # Under another guard of ours, of fewer fields, its fields are sealed; the server looks at all rows for the new one.
        other = _guard_of(table, column)
        complaint = document_complaint(table, wanted, current, guarded=other is not None)
        if complaint is not None:
            self.complaints.append(f"{wanted.at}: {complaint}")
            return []
        lines = []
        if not guarded and column.name not in handed_down.columns:
            name = quote_ident(guard_name(column.name))
            if other is not None:
                lines.append(f"ALTER TABLE {_table(table)} DROP CONSTRAINT {name};")
            lines += [f"ALTER TABLE {_table(table)} ADD CONSTRAINT {name} {guard(column)};", *_same_comment(table, other)]
        if not handed_down.indexes:
            lines += [_create(table, self._fresh_name(f, slot), f, slot) for f, slot in missing_indexes(table, wanted, column)]
        return lines

    def _check_obstacles(self, table: PhysicalTable, wanted: PolicyColumn, current: PhysicalColumn) -> None:
        def complain(text: str) -> None:
            self.complaints.append(f"{wanted.at}: {text}")

        column, name = quote_ident(wanted.name), _table(table)
        if current.type_name != "bytea":
            if not _same_kind(current.type_name, wanted.type):
                complain(f"{wanted.label} is {current.type_name}, the policy says {wanted.type.name}")
            if current.nondeterministic:
                complain(f"{wanted.label} has a nondeterministic collation, by which different values are equal: tags cannot be")
            if table.has_rows:
                complain(f"{name} has {self._counted(table)} in plaintext, {_NOT_IN_PLACE}")
            for dependent in current.dependents:
                complain(f"{dependent} uses {wanted.label}: drop it first and create it again afterwards")
        if current.default is not None and not _NULL_DEFAULT.fullmatch(current.default):
            complain(
                f"a DEFAULT of {wanted.label} must be set through the proxy, afterwards:"
                f" ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT first"
            )
        for check in table.checks:
            if wanted.name in check.columns and check.name != guard_name(wanted.name) and current.type_name != "bytea":
                drop = f"ALTER TABLE {name} DROP CONSTRAINT {quote_ident(check.name)}"
                complain(
                    f"CHECK constraint {check.name} over {wanted.label} must be added through the proxy, afterwards: {drop} first"
                )

    def _counted(self, table: PhysicalTable) -> str:
        count = self._rows.get((table.schema, table.name))
        return "rows" if count is None else f"{count} rows"

    def _column_lines(self, table: PhysicalTable, column: ProtectedColumn, current: PhysicalColumn) -> list[str]:
        alter, c = f"ALTER TABLE {_table(table)}", quote_ident(column.name)
        lines = []
        if current.default is not None and _SEALED_DEFAULT.fullmatch(current.default) is None:
            lines.append(f"{alter} ALTER COLUMN {c} DROP DEFAULT;")
        name = quote_ident(guard_name(column.name))
        guarded = has_guard(table, column)
        other = _guard_of(table, column)
        if not guarded and other is not None:
            lines.append(f"{alter} DROP CONSTRAINT {name};")
        if current.type_name != "bytea":
            lines.append(f"{alter} ALTER COLUMN {c} TYPE bytea USING NULL::bytea;")
        if current.storage != "e" or current.type_name != "bytea":
            lines.append(f"{alter} ALTER COLUMN {c} SET STORAGE EXTERNAL;")
        if not guarded:
            lines += [f"{alter} ADD CONSTRAINT {name} {guard(column)};", *_same_comment(table, other)]
        if column.type.not_null and not current.not_null:
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
                f"add `indexes: [{yaml_text(quote_ident(wanted.name))}]` and run `phiproxy keys init`, or drop it"
            )
        return None

    def _fresh_name(self, column: ProtectedColumn, slot: Slot) -> str:
        parts = (column.schema, column.table, column.name + column.path, slot.number)
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
        plain = f"phi_tag_idx_{column.table}_{column.name}{bare_path(column)}_{slot.number}"
        name = shorten(plain, digest)
        if name in self._names:
            name = shorten(f"{plain}_{digest}", digest)
        self._names.add(name)
        return name


def _guard_of(table: PhysicalTable, column: ProtectedColumn) -> PhysicalCheck | None:
    """Return the guard that a column has, whether it is the right one or not."""
    return next((check for check in table.checks if check.name == guard_name(column.name)), None)


def _same_comment(table: PhysicalTable, replaced: PhysicalCheck | None) -> list[str]:
    """Return what gives a guard the comment of the one that it replaces: it may say where clients see the column."""
    if replaced is None or replaced.comment is None:
        return []
    return [f"COMMENT ON CONSTRAINT {quote_ident(replaced.name)} ON {_table(table)} IS {literal(replaced.comment)};"]


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
