"""The tables of an identity: its columns, and the documents with fields of it, whose values are sealed anew for another slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from phiproxy.database_snapshot import read_snapshot
from phiproxy.documents.field_paths import ELEMENTS, parse_path
from phiproxy.errors import ConfigError
from phiproxy.jobs.relations import Connection, Identifier, Part, as_part, family_of, rows_of
from phiproxy.jobs.row_sql import Read, Scan
from phiproxy.jobs.running import JobSite
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import lacks_tag
from phiproxy.policy.physical_documents import lacks_leaf_tag, stale_leaf_pattern
from phiproxy.policy.protection import ProtectedColumn, Protection, Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity, column_of
from phiproxy.wire.oids import BYTEA_OID, JSONB_OID

ColumnName = tuple[str, str, str]
_TYPE: Final = "SELECT atttypid FROM pg_catalog.pg_attribute WHERE attrelid = %s::oid AND attname = %s AND NOT attisdropped"
_ZEROS: Final = "'\\x" + "00" * 16 + "'::pg_catalog.bytea"


@dataclass(frozen=True)
class Tagged:
    """One column of a table that has tags of an identity: ``column`` is the identity's own, or a document with ``fields`` of it."""

    column: ProtectedColumn
    fields: tuple[ProtectedColumn, ...] = ()

    @property
    def searched(self) -> tuple[ProtectedColumn, ...]:
        """What has indexes: the column itself, or those fields that are one value of each document."""
        return tuple(field for field in self.fields if ELEMENTS not in parse_path(field.path)) if self.fields else (self.column,)

    def with_slots(self, slots: tuple[Slot, ...]) -> ProtectedColumn:
        """Return the column as it is with other slots of the identity: what its guard is made of."""
        document = self.column.document
        if document is None:
            return replace(self.column, slots=slots)
        own = {field.path for field in self.fields}
        fields = tuple(replace(field, slots=slots) if field.path in own else field for field in document.fields)
        return replace(self.column, document=replace(document, fields=fields))

    def lacking(self, slot: int) -> sql.Composable:
        """Return the condition that a row ``t`` has a value without a tag in a slot."""
        name = self.column.name
        if not self.fields:
            return sql.SQL("t.{} IS NOT NULL AND {}").format(Identifier(name), as_part(lacks_tag(name, slot)))
        each = [as_part(lacks_leaf_tag(name, parse_path(field.path), slot)) for field in self.searched]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(each)) if each else sql.SQL("false")

    def tagged_in(self, slots: Sequence[int]) -> sql.Composable:
        """Return the condition that a row ``t`` has a value with a tag in one of these slots, which are dropped."""
        c = sql.SQL("t.{}").format(Identifier(self.column.name))
        if self.fields:
            number = self.fields[0].number
            each = [sql.SQL("({}::text ~ {})").format(c, sql.Literal(stale_leaf_pattern(number, slot))) for slot in slots]
        else:
            each = [
                sql.SQL(
                    f"(pg_catalog.octet_length({{0}}) >= 56 AND pg_catalog.get_byte({{0}}, 11) > {slot}"
                    f" AND pg_catalog.substring({{0}}, {13 + 16 * slot}, 16) <> {_ZEROS})"
                ).format(c)
                for slot in slots
            ]
        return sql.SQL(" OR ").join(each)


class Tables:
    """The tables of one identity, by the names of columns of tables; each with its partitions and children."""

    def __init__(self, slots: tuple[Slot, ...], columns: dict[ColumnName, Tagged], families: dict[ColumnName, list[Part]]) -> None:
        self.slots = slots
        self.columns = columns
        self.families = families

    @property
    def parts(self) -> list[Part]:
        """All relations, each once."""
        return list({part.name: part for family in self.families.values() for part in family}.values())

    @property
    def own_families(self) -> dict[ColumnName, list[Part]]:
        """Those of the identity's own columns: generated columns hold tags of these, and not of fields of documents."""
        return {name: parts for name, parts in self.families.items() if not self.columns[name].fields}

    def of(self, part: Part) -> list[Tagged]:
        """Return the columns of a relation that have tags of the identity, by their names."""
        return [self.columns[name] for name in sorted(self.families, key=lambda n: n[2]) if part in self.families[name]]


Wanted = tuple[Tables, Callable[[Tagged], sql.Composable]]
"""Tables of an identity, and the condition that a row ``t`` has a value of a column which is to be sealed anew."""


def scans_of(several: Sequence[Wanted]) -> list[tuple[Scan, list[Tagged]]]:
    """Return for each relation the rows with a value that is wanted for one of some identities, with the columns of all of these.

    So a row is written once, however many of its columns are to be sealed anew.
    """
    by_part: dict[tuple[str, str], tuple[Part, dict[str, Tagged], list[sql.Composable]]] = {}
    for tables, wanted in several:
        for part in tables.parts:
            if part.stores:
                _, columns, conditions = by_part.setdefault(part.name, (part, {}, []))
                for tagged in tables.of(part):
                    conditions.append(sql.SQL("({})").format(wanted(tagged)))
                    there = columns.setdefault(tagged.column.name, tagged)
                    columns[tagged.column.name] = replace(there, fields=tuple(dict.fromkeys((*there.fields, *tagged.fields))))
    return [(_scan(part, list(of.values()), conditions), list(of.values())) for part, of, conditions in by_part.values()]


def _scan(part: Part, columns: Sequence[Tagged], conditions: Sequence[sql.Composable]) -> Scan:
    types = tuple("jsonb" if column.fields else "bytea" for column in columns)
    names = tuple(column.column.name for column in columns)
    reads = tuple(Read(f"t.{quote_ident(name, always=True)}", type_, what=name) for name, type_ in zip(names, types, strict=True))
    return Scan(part, reads, names, sql.SQL(" OR ").join(conditions), set_types=types if "jsonb" in types else ())


async def read_tables(conn: Connection, site: JobSite, layout: Layout, identity: RegisteredIdentity) -> Tables:
    """Read what the columns and fields of an identity are now; ConfigError where the database does not fit its policy."""
    protection = (await read_snapshot(conn, site.settings, site.policy, layout)).protection
    every = [each for table in protection.tables for column in table.columns.values() for each in column.with_fields]
    own = next((column for column in every if column.number == identity.number), None)
    if own is None:
        raise ConfigError(f"{identity.identity} is of no column of the policy")
    columns: dict[ColumnName, Tagged] = {}
    families: dict[ColumnName, list[Part]] = {}
    for name in sorted({column_of(n) for n, number in layout.columns.items() if number == identity.number}):
        tagged = _tagged(protection, own, name)
        family = await family_of(conn, name[:2])
        wanted = [(JSONB_OID if tagged.fields else BYTEA_OID,)]
        if sealed := [part for part in family if await rows_of(conn, _TYPE, part.oid, name[2]) == wanted]:
            columns[name], families[name] = tagged, sealed
    return Tables(own.slots, columns, families)


def _tagged(protection: Protection, own: ProtectedColumn, name: ColumnName) -> Tagged:
    schema, table, column = name
    protected = protection.by_name.get((schema, table))
    listed = protected.columns.get(column) if protected is not None else None
    fields = tuple(field for field in listed.with_fields[1:] if field.number == own.number) if listed is not None else ()
    if listed is not None and (fields or listed.number == own.number):
        return Tagged(listed, fields)
    if own.path:
        raise ConfigError(f"{'.'.join(name)} has fields that the policy does not list any more")
    return Tagged(replace(own, schema=schema, table=table, name=column))
