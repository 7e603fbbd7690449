"""What columns of materialized views are set to, and security labels: what is made again in place of another gets them too."""

from typing import Final

from phiproxy.jobs.relations import Connection, rows_of
from phiproxy.policy.identifiers import literal, quote_ident

_SETTINGS: Final = """
SELECT a.attname::text, coalesce(a.attstattarget, -1)::int, coalesce(a.attoptions, '{}')::text[],
       CASE WHEN a.attstorage = t.typstorage THEN '' WHEN a.attstorage = 'p' THEN 'PLAIN' WHEN a.attstorage = 'm' THEN 'MAIN'
            WHEN a.attstorage = 'e' THEN 'EXTERNAL' ELSE 'EXTENDED' END,
       CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE '' END
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_LABELS: Final = """
SELECT l.provider, coalesce(a.attname::text, ''), l.label
  FROM pg_catalog.pg_seclabel l LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = l.objoid AND a.attnum = l.objsubid
 WHERE l.classoid = 1259 AND l.objoid = %s::oid ORDER BY 2, 1
"""


async def materialized_settings(conn: Connection, oid: int, of: str) -> list[str]:
    """Return what gives the columns of a materialized view, by its name as SQL, what they are set to; psycopg.Error."""
    statements = []
    for column, target, options, storage, compression in await rows_of(conn, _SETTINGS, oid):
        alter = f"ALTER MATERIALIZED VIEW {of} ALTER COLUMN {quote_ident(column)} SET"
        statements += [f"{alter} STATISTICS {target}"] if target >= 0 else []
        statements += [f"{alter} ({', '.join(options)})"] if options else []
        statements += [f"{alter} STORAGE {storage}"] if storage else []
        statements += [f"{alter} COMPRESSION {compression}"] if compression else []
    return statements


async def security_labels(conn: Connection, oid: int, of: str, kind: str) -> list[tuple[str, str]]:
    """Return, by column or none, what gives a relation the security labels that it has; psycopg.Error.

    ``SECURITY LABEL FOR anon ON COLUMN public.patients.ssn IS 'MASKED WITH VALUE NULL'``; ``kind`` is VIEW, for example.
    """
    labels = []
    for provider, column, label in await rows_of(conn, _LABELS, oid):
        on = f"COLUMN {of}.{quote_ident(column)}" if column else f"{kind} {of}"
        labels.append((column, f"SECURITY LABEL FOR {quote_ident(provider)} ON {on} IS {literal(label)}"))
    return labels
