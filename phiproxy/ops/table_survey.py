"""The columns of a database's own tables, with what says how each may be protected: ``phiproxy init`` proposes from these."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import kwargs_row


@dataclass(frozen=True, slots=True)
class SurveyedColumn:
    """One column. ``rows`` and ``distinct`` are the server's estimates: None where it has none, or does not show them."""

    schema: str
    table: str
    owner: str
    row_security: bool
    name: str
    type: str
    special: str | None
    """Why phiproxy cannot protect it, if that can be seen: a generated column, an identity, a partition key, its type."""
    references: tuple[str, str, str] | None
    """Schema, table and column of a foreign key over this column alone."""
    in_long_key: bool
    """It is part of a foreign key over several columns."""
    filled: bool
    rows: int | None
    distinct: int | None

    @property
    def address(self) -> tuple[str, str, str]:
        """Schema, table and column."""
        return self.schema, self.table, self.name


# Partitions are left out, since a policy names their parent; so are tables that an extension brought.
_COLUMNS = """
SELECT n.nspname AS schema, c.relname AS table, r.rolname AS owner, c.relrowsecurity AS row_security, a.attname AS name,
       format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attgenerated <> '' THEN 'a generated column'
            WHEN a.attidentity <> '' THEN 'an identity column'
            WHEN a.attnum = ANY (p.partattrs) THEN 'part of the partition key'
            WHEN b.typnamespace <> 'pg_catalog'::regnamespace AND b.typtype NOT IN ('e', 'd') AND b.typname <> 'citext'
            THEN 'of a type that cannot be protected' END AS special,
       (SELECT ARRAY[fn.nspname, fc.relname, fa.attname]::text[]
          FROM pg_constraint f JOIN pg_class fc ON fc.oid = f.confrelid JOIN pg_namespace fn ON fn.oid = fc.relnamespace
          JOIN pg_attribute fa ON fa.attrelid = f.confrelid AND fa.attnum = f.confkey[1]
         WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum] ORDER BY f.conname LIMIT 1) AS references,
       EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND (
                 (f.conrelid = c.oid AND a.attnum = ANY (f.conkey) AND cardinality(f.conkey) > 1)
              OR (f.confrelid = c.oid AND a.attnum = ANY (f.confkey) AND cardinality(f.confkey) > 1))) AS in_long_key,
       EXISTS (SELECT FROM pg_partition_tree(c.oid) t WHERE t.isleaf AND pg_relation_size(t.relid) > 0)
         OR (c.relkind = 'r' AND pg_relation_size(c.oid) > 0) AS filled,
       CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint END AS rows,
       CASE WHEN s.n_distinct > 0 THEN s.n_distinct::bigint
            WHEN s.n_distinct < 0 AND c.reltuples > 0 THEN (-s.n_distinct * c.reltuples)::bigint END AS distinct
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON r.oid = c.relowner
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
  LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                      AND s.inherited = (c.relkind = 'p')
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname NOT IN ('information_schema', %(registry)s)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname, a.attnum
"""


def survey(conn: psycopg.Connection[Any], registry: str) -> list[SurveyedColumn]:
    """Read all columns of ordinary and partitioned tables, without those of the schema ``registry``; psycopg.Error as it comes.

    Types are spelled as a policy spells them: those of the database's own with their schema.
    """
    with conn.transaction(), conn.cursor(row_factory=kwargs_row(_column)) as cursor:
        cursor.execute("SET LOCAL search_path = pg_catalog")
        return cursor.execute(_COLUMNS, {"registry": registry}).fetchall()


def _column(references: list[str] | None, **row: Any) -> SurveyedColumn:
    return SurveyedColumn(references=None if references is None else (references[0], references[1], references[2]), **row)
