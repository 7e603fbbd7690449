"""The privileges and the comment of a column, which the one that takes its place has too."""

from typing import Final

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


async def privileges_and_comment(conn: Connection, part: Part, column: str) -> tuple[str, ...]:
    """Return what gives a column of a relation, which takes another's place, its privileges and its comment; psycopg.Error."""
    statements = []
    for privilege, role, grantable in await rows_of(conn, _PRIVILEGES, part.oid, column):
        to = "PUBLIC" if role == "PUBLIC" else quote_ident(role)
        option = " WITH GRANT OPTION" if grantable else ""
        statements.append(f"GRANT {privilege} ({quote_ident(column)}) ON {part.label} TO {to}{option}")
    for (comment,) in await rows_of(conn, _COMMENT, part.oid, column):
        if comment is not None:
            statements.append(f"COMMENT ON COLUMN {part.label}.{quote_ident(column)} IS {literal(comment)}")
    return tuple(statements)
