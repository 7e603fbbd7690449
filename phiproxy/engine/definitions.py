"""The types of a database as SQL that makes them again elsewhere: enums, domains, composites, ranges, and those of extensions.

Read with one query over the service connection; the answer is a text, so that the reader may be anybody's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from phiproxy.errors import ConfigError
from phiproxy.policy.identifiers import quote_ident

# Without arrays and what is temporary; of the row types of tables and views only which types arrays of them are. To be asked under
# search_path = pg_catalog, so that all names in what format_type and pg_get_constraintdef write are qualified.
DEFINITIONS = r"""
SELECT pg_catalog.json_build_array(
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::int8, t.typarray::int8, n.nspname, t.typname, t.typtype::text,
     (SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
       WHERE d.classid = 1247 AND d.objid = t.oid AND d.refclassid = 3079 AND d.deptype = 'e'),
     CASE t.typtype
       WHEN 'e' THEN (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
                       WHERE e.enumtypid = t.oid)
       WHEN 'd' THEN pg_catalog.json_build_array(pg_catalog.format_type(t.typbasetype, t.typtypmod), {collation_t}, t.typnotnull,
         (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conname, pg_catalog.pg_get_constraintdef(k.oid))
                                     ORDER BY k.conname)
            FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'))
       WHEN 'c' THEN (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname,
                        pg_catalog.format_type(a.atttypid, a.atttypmod), {collation_a}) ORDER BY a.attnum)
                        FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
       WHEN 'r' THEN (SELECT pg_catalog.json_build_array(pg_catalog.format_type(r.rngsubtype, -1), {collation_r},
                        r.rngcanonical <> 0 OR NOT o.opcdefault, m.oid::int8, m.typarray::int8, m.typname)
                        FROM pg_catalog.pg_range r JOIN pg_catalog.pg_type m ON m.oid = r.rngmultitypid
                        JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc WHERE r.rngtypid = t.oid)
     END,
     (SELECT pg_catalog.json_agg(DISTINCT coalesce(e.oid, u.oid)::int8)
        FROM (SELECT t.typbasetype UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
              UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) u (oid)
        LEFT JOIN pg_catalog.pg_type e ON e.typarray = u.oid WHERE u.oid >= 16384)) ORDER BY t.oid)
     FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
     LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
    WHERE t.oid >= 16384 AND t.typtype IN ('b', 'c', 'd', 'e', 'r') AND (t.typrelid = 0 OR c.relkind = 'c')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
      AND n.nspname NOT LIKE 'pg\_temp\_%' AND n.nspname NOT LIKE 'pg\_toast%'),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(x.extname, x.extversion, n.nspname) ORDER BY x.extname)
     FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_namespace n ON n.oid = x.extnamespace),
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::int8, t.typarray::int8))
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_type t ON t.oid = c.reltype
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT LIKE 'pg\_temp\_%' AND n.nspname NOT LIKE 'pg\_toast%'))::text
"""
_COLLATION = """(SELECT pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(l.collname)
         FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace cn ON cn.oid = l.collnamespace
        WHERE l.oid = {} AND l.oid <> 100)"""
DEFINITIONS = DEFINITIONS.format(
    collation_t=_COLLATION.format("t.typcollation"),
    collation_a=_COLLATION.format("a.attcollation"),
    collation_r=_COLLATION.format("r.rngcollation"),
)

@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """One type. ``sql`` makes it, and is empty where it cannot be made anew: then its ``extension`` must.

    ``oids`` are those that it must have, by (schema, name): its own, and what PostgreSQL makes with it. ``needs`` are the oids of
    types that must be there before.
    """

    oid: int
    schema: str
    name: str
    sql: str
    extension: str = ""
    oids: tuple[tuple[str, str, int, int], ...] = ()
    needs: frozenset[int] = frozenset()

    @property
    def qualified(self) -> str:
        """``schema.type``, quoted where that is needed."""
        return f"{quote_ident(self.schema)}.{quote_ident(self.name)}"


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of the server's database, as it is there."""

    name: str
    version: str
    schema: str


@dataclass(frozen=True, slots=True)
class Definitions:
    """All types of a database, and its extensions."""

    types: tuple[TypeDefinition, ...] = ()
    extensions: tuple[Extension, ...] = ()
    rows: tuple[TypeDefinition, ...] = ()
    """The types of the rows of tables and views that statements have asked for."""
    arrays: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    """The types of arrays of rows, by those of the rows: of a table or view that nothing asks for nothing depends on it."""

    @property
    def all_types(self) -> tuple[TypeDefinition, ...]:
        """All types, those of rows behind the others."""
        return self.types + self.rows

    def with_extensions(self, wanted: Iterable[str]) -> Definitions:
        """Return these with the wanted extensions only; ConfigError where the server has not all of them."""
        by_name = {extension.name: extension for extension in self.extensions}
        lacking = sorted(set(wanted) - by_name.keys())
        if lacking:
            raise ConfigError(f"compute.extensions: the server's database has no extension {', '.join(lacking)}")
        return replace(self, extensions=tuple(by_name[name] for name in sorted(set(wanted))))

    @property
    def digest(self) -> str:
        """What changes whenever anything else here does."""
        return hashlib.blake2b(repr(self).encode(), digest_size=12).hexdigest()

    @property
    def schemas(self) -> list[str]:
        """The schemas in which they are."""
        return sorted({t.schema for t in self.all_types} | {e.schema for e in self.extensions})

    def in_order(self) -> Iterator[TypeDefinition]:
        """Yield the types, each behind those that it needs; rows are of any of them."""
        by_oid = {t.oid: t for t in self.types}
        order = TopologicalSorter({t.oid: sorted(t.needs & by_oid.keys()) for t in self.types})
        try:
            oids = list(order.static_order())
        except CycleError as error:  # a catalogue that PostgreSQL would not make
            raise ConfigError("the types of the server's database need each other in a circle") from error
        yield from (by_oid[oid] for oid in oids)
        yield from self.rows


def read_definitions(text: str) -> Definitions:
    """Return what ``DEFINITIONS`` told."""
    types, extensions, rows = json.loads(text)
    read = tuple(map(_definition, types or ())), tuple(Extension(*row) for row in extensions or ())
    return Definitions(*read, arrays=dict(rows or ()))


def row_type(oid: int, array_oid: int, name: tuple[str, str], columns: Iterable[tuple[str, str, str]]) -> TypeDefinition:
    """Return the type of the rows of a table or view, (schema, name), of columns with their types and collations as SQL."""
    attributes = (f"{quote_ident(column)} {of}{_collate(collation)}" for column, of, collation in columns)
    sql = f"CREATE TYPE {quote_ident(name[0])}.{quote_ident(name[1])} AS ({', '.join(attributes)})"
    return TypeDefinition(oid, *name, sql, "", ((*name, oid, array_oid),))


def _definition(row: Sequence[Any]) -> TypeDefinition:
    oid, array_oid, schema, name, kind, extension, details, needs = row
    qualified = f"{quote_ident(schema)}.{quote_ident(name)}"
    sql, oids = "", [(schema, name, oid, array_oid)]
    if kind == "e":
        sql = f"CREATE TYPE {qualified} AS ENUM ({', '.join(map(_literal, details or ()))})"
    elif kind == "d":
        sql = _domain(qualified, *details)
    elif kind == "c":
        attributes = (f"{quote_ident(column)} {of}{_collate(collation)}" for column, of, collation in details or ())
        sql = f"CREATE TYPE {qualified} AS ({', '.join(attributes)})"
    elif kind == "r":
        subtype, collation, special, multi_oid, multi_array_oid, multi_name = details
        multirange = f"{quote_ident(schema)}.{quote_ident(multi_name)}"
        collated = f", COLLATION = {collation}" if collation else ""
        if not special:  # a function of somebody's own would decide what its values are
            sql = f"CREATE TYPE {qualified} AS RANGE (SUBTYPE = {subtype}{collated}, MULTIRANGE_TYPE_NAME = {multirange})"
        oids.append((schema, multi_name, multi_oid, multi_array_oid))
    return TypeDefinition(oid, schema, name, "" if extension else sql, extension or "", tuple(oids), frozenset(needs or ()))


def _domain(qualified: str, base: str, collation: str | None, not_null: bool, checks: Sequence[tuple[str, str]] | None) -> str:  # noqa: FBT001
    parts = [f"CREATE DOMAIN {qualified} AS {base}{_collate(collation)}"]
    if not_null:
        parts.append("NOT NULL")
    # One that is not valid holds for every value that is made from now on.
    parts += [f"CONSTRAINT {quote_ident(name)} {text.removesuffix(' NOT VALID')}" for name, text in checks or ()]
    return " ".join(parts)


def _collate(collation: str | None) -> str:
    return f" COLLATE {collation}" if collation else ""


def _literal(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"
