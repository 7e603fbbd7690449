"""The privileges, comment, security labels and statistics settings of a column, which the one that takes its place has too."""

from typing import Final

from phiproxy.jobs.column_settings import security_labels
from phiproxy.jobs.relations import Connection, Part, rows_of
from phiproxy.policy.identifiers import literal, quote_ident

_PRIVILEGES: Final = """
SELECT x.privilege_type::text, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END,
       x.is_grantable
  FROM pg_catalog.pg_attribute a, LATERAL pg_catalog.aclexplode(a.attacl) x
 WHERE a.attrelid = %s::oid AND a.attname = %s AND NOT a.attisdropped ORDER BY 2, 1
"""
_COMMENT: Final = """
SELECT pg_catalog.col_description(attrelid, attnum) FROM pg_catalog.pg_attribute
 WHERE attrelid = %s::oid AND attname = %s AND NOT attisdropped
"""
_STATISTICS: Final = """
SELECT coalesce(attstattarget, -1)::int, ARRAY(SELECT o FROM pg_catalog.unnest(attoptions) o WHERE o LIKE 'n_distinct%%')
  FROM pg_catalog.pg_attribute
 WHERE attrelid = %s::oid AND attname = %s AND NOT attisdropped
"""


async def privileges_and_comment(conn: Connection, part: Part, column: str) -> tuple[str, ...]:
    """Return what gives a column of a relation, which takes another's place, what it has of itself; psycopg.Error."""
    statements = []
    for privilege, role, grantable in await rows_of(conn, _PRIVILEGES, part.oid, column):
        to = "PUBLIC" if role == "PUBLIC" else quote_ident(role)
        option = " WITH GRANT OPTION" if grantable else ""
        statements.append(f"GRANT {privilege} ({quote_ident(column)}) ON {part.label} TO {to}{option}")
    for (comment,) in await rows_of(conn, _COMMENT, part.oid, column):
        if comment is not None:
            statements.append(f"COMMENT ON COLUMN {part.label}.{quote_ident(column)} IS {literal(comment)}")
    statements += [text for of, text in await security_labels(conn, part.oid, part.label, "TABLE") if of == column]
    alter = f"ALTER TABLE ONLY {part.label} ALTER COLUMN {quote_ident(column)} SET"
    for target, options in await rows_of(conn, _STATISTICS, part.oid, column):
        statements += [f"{alter} STATISTICS {target}"] if target >= 0 else []
        statements += [f"{alter} ({', '.join(options)})"] if options else []
    return tuple(statements)


_STORAGE: Final = """
SELECT CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'm' THEN 'MAIN' WHEN 'e' THEN 'EXTERNAL' ELSE 'EXTENDED' END,
       a.attstorage <> t.typstorage, CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE '' END
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = %s::oid AND a.attname = %s AND NOT a.attisdropped
"""


async def storage_of(conn: Connection, part: Part, column: str) -> list[str]:
    """Say how a column of a relation is stored that is not as its type is by itself: sealed values are stored in one way only."""
    told = []
    for storage, other, compression in await rows_of(conn, _STORAGE, part.oid, column):
        own = [f"STORAGE {storage}"] if other else []
        own += [f"COMPRESSION {compression}"] if compression else []
        told += [f"{part.label}.{quote_ident(column)}: {' and '.join(own)} is not kept, nor given back by decrypt"] if own else []
    return told
