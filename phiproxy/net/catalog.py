"""Read the catalogue snapshot over the service connection; knows nothing of what will be done with it.

One transaction of plain SELECTs over pg_catalog: a snapshot of one moment. No regclass casts and, but for the guards, no pg_get_*
functions, which look names up afresh and fail when a table is dropped between two of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection
from functools import partial
from typing import Any

import psycopg

from phiproxy.index.collations import identity_query
from phiproxy.index.table import names
from phiproxy.net.signatures import read_signatures
from phiproxy.policy import snapshot
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.reach import ALWAYS, PG_CLASS, Node, Objects, reaching, setting
from phiproxy.sql.ddl.domains import domain_condition

# In all that follows: 16384 is FirstNormalObjectId (what is below was made by initdb), and catalogues go by their
# fixed oids: 1259 pg_class, 1255 pg_proc, 1247 pg_type, 2617 pg_operator, 2605 pg_cast, 2618 pg_rewrite, 2620
# pg_trigger, 3256 pg_policy, 2604 pg_attrdef, 2606 pg_constraint. (catalogue, oid, name, kind in words)
# A trigger on a table of the registry may have set another one in this session, with operators that answer otherwise.
_SEARCH_PATH = "SET LOCAL search_path TO pg_catalog"
_NAMES = """
SELECT 1259, c.oid::int8, c.relname,
       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                      WHEN 'c' THEN 'composite type' ELSE 'table' END
  FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','p','v','m','f','c') AND c.oid >= 16384
UNION ALL
SELECT 1255, p.oid::int8, p.proname,
       CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END
  FROM pg_catalog.pg_proc p WHERE p.oid >= 16384
UNION ALL
SELECT 1247, t.oid::int8, t.typname, CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END
  FROM pg_catalog.pg_type t WHERE t.oid >= 16384
UNION ALL
SELECT 2617, o.oid::int8, o.oprname, 'operator'
  FROM pg_catalog.pg_operator o WHERE o.oid >= 16384
"""
# (catalogue, oid, catalogue and oid of what runs it): 2618 pg_rewrite, 2620 pg_trigger, 3256 pg_policy, 2604
# pg_attrdef, 2606 pg_constraint; a cast is reached through either of its types
_STANDS_FOR = """
SELECT 2618, r.oid::int8, 1259, r.ev_class::int8 FROM pg_catalog.pg_rewrite r
UNION ALL SELECT 2620, t.oid::int8, 1259, t.tgrelid::int8 FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal
UNION ALL SELECT 3256, p.oid::int8, 1259, p.polrelid::int8 FROM pg_catalog.pg_policy p
UNION ALL SELECT 2604, d.oid::int8, 1259, d.adrelid::int8 FROM pg_catalog.pg_attrdef d
UNION ALL SELECT 2606, k.oid::int8, 1259, k.conrelid::int8
            FROM pg_catalog.pg_constraint k WHERE k.contype NOT IN ('f', 't') AND k.conrelid <> 0
UNION ALL SELECT 2606, k.oid::int8, 1247, k.contypid::int8 FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0
UNION ALL SELECT 1259, i.indexrelid::int8, 1259, i.indrelid::int8
            FROM pg_catalog.pg_index i WHERE i.indexrelid >= 16384
UNION ALL SELECT 2605, c.oid::int8, 1247, c.castsource::int8
            FROM pg_catalog.pg_cast c WHERE c.oid >= 16384
UNION ALL SELECT 2605, c.oid::int8, 1247, c.casttarget::int8
            FROM pg_catalog.pg_cast c WHERE c.oid >= 16384
"""
# foreign keys and their triggers check tags of tables that are named; sequences, TOAST and publications hold no value
_SILENT = """
SELECT 2606, k.oid::int8 FROM pg_catalog.pg_constraint k WHERE k.contype IN ('f', 't')
UNION ALL SELECT 2620, t.oid::int8 FROM pg_catalog.pg_trigger t WHERE t.tgisinternal
UNION ALL SELECT 1259, c.oid::int8 FROM pg_catalog.pg_class c WHERE c.relkind IN ('S', 't')
"""
_EDGES = """
SELECT d.classid::int8, d.objid::int8, d.refclassid::int8, d.refobjid::int8 FROM pg_catalog.pg_depend d
 WHERE d.refobjid >= 16384 AND d.objid >= 16384 AND (d.classid, d.objid) <> (d.refclassid,
 d.refobjid) UNION ALL SELECT 1247, t.oid::int8, 1259, t.typrelid::int8 FROM pg_catalog.pg_type t WHERE t.typrelid
 >= 16384 UNION ALL SELECT 1259, i.inhrelid::int8, 1259, i.inhparent::int8 FROM pg_catalog.pg_inherits i UNION ALL
 SELECT 1259, i.inhparent::int8, 1259, i.inhrelid::int8 FROM pg_catalog.pg_inherits i
"""
_BODIES = """
SELECT 1255, p.oid::int8, p.prosrc || CASE WHEN p.prosqlbody::text ~ ':funcid 2078 ' THEN ' set_config' ELSE '' END
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
"""
_REMOTE = """
SELECT 1259, f.ftrelid::int8, coalesce(
         (SELECT o.option_value FROM pg_catalog.pg_options_to_table(f.ftoptions) o WHERE o.option_name =
         'table_name'), c.relname) FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_class c ON c.oid =
         f.ftrelid
"""
# A body that has EXECUTE in PL/pgSQL, or is in a language that nothing is known of, may run what it is given.
_DYNAMIC = r"""
SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND l.lanname NOT IN ('sql', 'c', 'internal') AND (l.lanname <> 'plpgsql' OR p.prosrc ~* '\mexecute\M')
"""
# What could be chosen for a text, an enum or a domain in place of the built-in: 25 text, 1042 bpchar, 1043 varchar, 17 bytea, 705
# unknown and the polymorphic types that take them. 11 is pg_catalog.
_OTHERS = ("substr", "char_length", "character_length", "octet_length", "concat", "like_escape", "make_date")
# int2, int4, int8, numeric, unknown, date, timestamp, timestamptz, interval: what arithmetic with constants may be taken for.
_DATED = "21, 23, 20, 1700, 705, 1082, 1114, 1184, 1186"
_FUNCTIONS = ", ".join(f"'{name}'" for name in sorted({*names(), *_OTHERS}))
_REPLACED = f"""
SELECT o.oprname FROM pg_catalog.pg_operator o
 WHERE o.oid >= 16384 AND o.oprnamespace <> 11 AND o.oprname IN ('=', '<>')
   AND (o.oprleft IN (17, 25, 705, 1042, 1043, 2283, 2776, 5077) AND o.oprright IN (17, 25, 705, 1042, 1043, 2283, 2776, 5077)
        OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid IN (o.oprleft, o.oprright) AND t.typtype IN ('d', 'e')))
UNION SELECT p.proname FROM pg_catalog.pg_proc p
 WHERE p.oid >= 16384 AND p.pronamespace <> 11 AND p.proname = 'count' AND p.pronargs = 1
UNION SELECT p.proname FROM pg_catalog.pg_proc p
 WHERE p.oid >= 16384 AND p.pronamespace <> 11 AND p.proname IN ({_FUNCTIONS})
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = 1255 AND d.objid = p.oid AND d.refclassid = 3079 AND d.deptype = 'e'
                      AND e.extname IN ('fuzzystrmatch', 'citext'))
UNION SELECT o.oprname FROM pg_catalog.pg_operator o
 WHERE o.oid >= 16384 AND o.oprnamespace <> 11 AND o.oprname IN ('||', '~', '!~', '~*', '!~*', '~~', '!~~', '~~*', '!~~*')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = 2617 AND d.objid = o.oid AND d.refclassid = 3079 AND d.deptype = 'e' AND e.extname = 'citext')
   AND (o.oprleft IN (17, 25, 705, 1042, 1043, 2283, 2776, 5077) OR o.oprright IN (17, 25, 705, 1042, 1043, 2283, 2776, 5077)
        OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid IN (o.oprleft, o.oprright) AND t.typtype = 'd'))
UNION SELECT o.oprname FROM pg_catalog.pg_operator o
 WHERE o.oid >= 16384 AND o.oprnamespace <> 11 AND o.oprname IN ('+', '-', '*')
   AND o.oprleft IN ({_DATED}) AND o.oprright IN ({_DATED})
"""
log = logging.getLogger(__name__)
_VIEWS = """
SELECT c.oid::int8, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c WHERE c.oid IN ({oids})
"""
_ASCII_CASE = """
SELECT pg_catalog.lower(pg_catalog.upper(a)) = a AND pg_catalog.upper(a) = pg_catalog.translate(a, 'abcdefghijklmnopqrstuvwxyz',
                                                                                    'ABCDEFGHIJKLMNOPQRSTUVWXYZ')
  FROM (VALUES ('abcdefghijklmnopqrstuvwxyz'::text)) v (a)
"""
# Of a name that is there twice (a user's own before the server's, or one of another encoding) all must be deterministic.
_COLLATIONS = """
SELECT c.collname FROM pg_catalog.pg_collation c GROUP BY c.collname HAVING pg_catalog.bool_and(c.collisdeterministic)
"""
_ALWAYS = "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p"

# A change to a row of these gives it another xmin, and an added or dropped row changes count and sum. Temporary
# tables of other sessions would make every second one of change, so they are left out: a session that names one
# asks by CatalogNeeded. Measured on PostgreSQL 15: 2 ms for a database of 200 tables, 35 ms for one of 5 000. The
# statistics collector's counters would cost 0.3 ms, but are flushed up to 10 s late; LISTEN with an event trigger
# would need a superuser.
_VERSION = """
WITH temp AS MATERIALIZED (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relpersistence = 't'), parts(part) AS (
  SELECT (pg_catalog.count(*), pg_catalog.sum(c.xmin::text::int8))::text FROM pg_catalog.pg_class c
   WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind <> 't'
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(a.xmin::text::int8))::text FROM pg_catalog.pg_attribute a
   WHERE a.attrelid >= 16384 AND a.attnum > 0 AND a.attrelid NOT IN (SELECT oid FROM temp)
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(p.xmin::text::int8))::text FROM pg_catalog.pg_proc p
   WHERE p.oid >= 16384
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(r.xmin::text::int8))::text FROM pg_catalog.pg_rewrite r
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(t.xmin::text::int8))::text FROM pg_catalog.pg_trigger t
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(i.xmin::text::int8))::text FROM pg_catalog.pg_inherits i
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(k.xmin::text::int8))::text FROM pg_catalog.pg_constraint k
   WHERE k.conrelid NOT IN (SELECT oid FROM temp)
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(l.xmin::text::int8))::text FROM pg_catalog.pg_enum l
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(d.xmin::text::int8))::text FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid NOT IN (SELECT oid FROM temp)
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(o.xmin::text::int8))::text FROM pg_catalog.pg_operator o
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(o.xmin::text::int8))::text FROM pg_catalog.pg_cast o
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(o.xmin::text::int8))::text FROM pg_catalog.pg_policy o
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(o.xmin::text::int8))::text FROM pg_catalog.pg_collation o
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(o.xmin::text::int8))::text FROM pg_catalog.pg_foreign_table o
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(n.xmin::text::int8))::text FROM pg_catalog.pg_namespace n
   WHERE n.nspname NOT LIKE 'pg\\_temp\\_%' AND n.nspname NOT LIKE 'pg\\_toast\\_temp\\_%'
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(t.xmin::text::int8))::text FROM pg_catalog.pg_type t
   WHERE t.oid >= 16384 AND t.typrelid NOT IN (SELECT oid FROM temp) AND t.typcategory <> 'A'
) SELECT pg_catalog.md5(pg_catalog.string_agg(part, ' ')) FROM parts
"""

# What _VERSION leaves out. Asked only where a name is not known: it may be a temporary table's.
_TEMPORARY = """
WITH temp AS MATERIALIZED (SELECT c.oid, c.xmin FROM pg_catalog.pg_class c WHERE c.relpersistence = 't'), parts(part) AS (
  SELECT (pg_catalog.count(*), pg_catalog.sum(t.xmin::text::int8))::text FROM temp t
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(a.xmin::text::int8))::text
   FROM pg_catalog.pg_attribute a JOIN temp t ON t.oid = a.attrelid WHERE a.attnum > 0
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(k.xmin::text::int8))::text
   FROM pg_catalog.pg_constraint k JOIN temp t ON t.oid = k.conrelid
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(d.xmin::text::int8))::text
   FROM pg_catalog.pg_attrdef d JOIN temp t ON t.oid = d.adrelid
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(y.xmin::text::int8))::text
   FROM pg_catalog.pg_type y JOIN temp t ON t.oid = y.typrelid
  UNION ALL SELECT (pg_catalog.count(*), pg_catalog.sum(n.xmin::text::int8))::text
   FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'pg\\_temp\\_%'
) SELECT pg_catalog.string_agg(part, ' ') FROM parts
"""


async def catalog_version(conn: psycopg.AsyncConnection[Any]) -> str:
    """Return a text that is another one after every DDL; cheap enough for each second. Raises psycopg.Error."""
    rows = await _rows(conn, _VERSION, before=_SEARCH_PATH)
    return str(rows[0][0])


async def temporary_version(conn: psycopg.AsyncConnection[Any]) -> str:
    """Return a text that is another one after every DDL of anybody's temporary tables. Raises psycopg.Error."""
    rows = await _rows(conn, _TEMPORARY, before=_SEARCH_PATH)
    return str(rows[0][0])


async def read_catalog(conn: psycopg.AsyncConnection[Any], protected: Collection[tuple[str, str]]) -> Catalog:
    """Read the snapshot and what reaches the tables of ``protected``, (schema, table) each, and those that have a guard.

    The connection must be idle, outside of a transaction. Raises psycopg.Error.
    """
    async with conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await conn.execute(_SEARCH_PATH)
        relations = await _relations(conn)
        reach, setters = await _reaching(conn, relations, protected)
        dynamic = frozenset(name for (name,) in await _rows(conn, _DYNAMIC))
        replaced = frozenset(name for (name,) in await _rows(conn, _REPLACED))
        collations = frozenset(name for (name,) in await _rows(conn, _COLLATIONS))
        signatures, own_signatures = await read_signatures(partial(_rows, conn), conn.info.server_version)
        views = await _views(conn, [r.oid for r in relations if r.kind in ("v", "m") and r.name in reach])
        ((ascii_case,),) = await _rows(conn, _ASCII_CASE)
        ((collation,),) = await _rows(conn, identity_query(conn.info.server_version))
        ((own,),) = await _rows(conn, snapshot.TYPES)
    types = snapshot.own_types(own, partial(domain_condition, replaced=replaced))
    text = (ascii_case, collation, types)
    names = [sorted(found) for found in (dynamic, replaced, collations, setters)]
    names.append([own_signatures])
    digest = await asyncio.to_thread(_digest, (relations, sorted(reach.items()), sorted(views.items()), text, names))
    own_names = (collations, setters)
    return Catalog(
        int.from_bytes(digest), conn.info.server_version, relations, reach, dynamic, views, replaced, *text, *own_names, signatures
    )


async def _views(conn: psycopg.AsyncConnection[Any], oids: list[int]) -> dict[int, str]:
    """Read the stored queries of these views; none where one of them is locked or dropped just now: then all of them stay refused.

    Unlike all else here this takes a lock on each view, and nobody may wait for a client that changes one.
    """
    if not oids:
        return {}
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout TO '50ms'")
            await conn.execute("SET LOCAL search_path TO pg_catalog, pg_temp")  # what is not in it is written with its schema
            return {oid: text for oid, text in await _rows(conn, _VIEWS.format(oids=",".join(map(str, oids)))) if text is not None}
    except psycopg.errors.Error as error:
        if conn.closed:
            raise
        log.debug("the stored queries of views could not be read: %s", error.sqlstate)
        return {}


def _digest(content: object) -> bytes:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).digest()


async def _rows(conn: psycopg.AsyncConnection[Any], query: str, *, before: str = "") -> list[tuple[Any, ...]]:
    """Return the rows of a query; ``before`` is a statement that is sent with it, for one transaction of both."""
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        # Triggers of the registry's owner run in this session too: what they have prepared there must not be what is executed.
        await cursor.execute((f"{before}; {query}" if before else query).encode(), prepare=False)
        if before:
            cursor.nextset()
        return await cursor.fetchall()


async def _relations(conn: psycopg.AsyncConnection[Any]) -> tuple[Relation, ...]:
    rows = await _rows(conn, snapshot.ALL)
    # Thousands of tables are a second of work: not on the loop, where sessions wait.
    return await asyncio.to_thread(lambda: tuple(snapshot.relation(text) for (text,) in rows))


async def _reaching(
    conn: psycopg.AsyncConnection[Any], relations: tuple[Relation, ...], protected: Collection[tuple[str, str]]
) -> tuple[dict[str, str], frozenset[str]]:
    wanted = set(protected)
    always = {name for (name,) in await _rows(conn, _ALWAYS) if ALWAYS.fullmatch(name)}
    tables = {Node(PG_CLASS, r.oid): r.qualified for r in relations if (r.schema, r.name) in wanted or r.guards}
    if not tables:
        return reaching(Objects(), {}, always) if wanted else {}, frozenset()
    objects = Objects()
    for catalogue, oid, name, kind in await _rows(conn, _NAMES):
        objects.names[Node(catalogue, oid)] = (name, kind)
    for catalogue, oid, owner, owner_oid in await _rows(conn, _STANDS_FOR):
        node = Node(catalogue, oid)
        objects.stands_for[node] = (*objects.stands_for.get(node, ()), Node(owner, owner_oid))
    objects.silent = {Node(*row) for row in await _rows(conn, _SILENT)}
    objects.edges = [(Node(a, b), Node(c, d)) for a, b, c, d in await _rows(conn, _EDGES)]
    objects.bodies = {Node(c, oid): body for c, oid, body in await _rows(conn, _BODIES)}
    objects.remote = {Node(c, oid): name for c, oid, name in await _rows(conn, _REMOTE)}
    return await asyncio.to_thread(lambda: (reaching(objects, tables, always), setting(objects)))
