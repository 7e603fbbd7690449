"""A catalogue read whole, object by object, without regard to what matters: what the reader's short cuts are compared with."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import psycopg

from phiproxy.net.database_objects import Definitions, read_definitions
from phiproxy.policy import catalog_rows
from phiproxy.policy.catalog import Relation
from phiproxy.policy.dependencies import PG_CLASS, Node, Objects, dependents_of, setters_of

# There are some 200 of the server's own, which no DDL changes.
_RELATIONS = catalog_rows.ALL.removesuffix(" ORDER BY c.oid") + " AND c.oid >= 16384"
assert _RELATIONS.count("ORDER BY c.oid") == 0
# (catalogue, oid, name, kind in words)
_NAMES = """
SELECT 1259, c.oid::int8, c.relname,
       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                      WHEN 'c' THEN 'composite type' ELSE 'table' END
  FROM pg_class c WHERE c.relkind IN ('r','p','v','m','f','c') AND c.oid >= 16384
UNION ALL
SELECT 1255, p.oid::int8, p.proname, CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END
  FROM pg_proc p WHERE p.oid >= 16384
UNION ALL
SELECT 1247, t.oid::int8, t.typname, CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END FROM pg_type t WHERE t.oid >= 16384
UNION ALL SELECT 2617, o.oid::int8, o.oprname, 'operator' FROM pg_operator o WHERE o.oid >= 16384
"""
# (catalogue, oid, catalogue and oid of what runs it)
_STANDS_FOR = """
SELECT 2618, r.oid::int8, 1259, r.ev_class::int8 FROM pg_rewrite r
UNION ALL SELECT 2620, t.oid::int8, 1259, t.tgrelid::int8 FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL SELECT 3256, p.oid::int8, 1259, p.polrelid::int8 FROM pg_policy p
UNION ALL SELECT 2604, d.oid::int8, 1259, d.adrelid::int8 FROM pg_attrdef d
UNION ALL SELECT 2606, k.oid::int8, 1259, k.conrelid::int8 FROM pg_constraint k
           WHERE k.contype NOT IN ('f', 't') AND k.conrelid <> 0
UNION ALL SELECT 2606, k.oid::int8, 1247, k.contypid::int8 FROM pg_constraint k WHERE k.contypid <> 0
UNION ALL SELECT 1259, i.indexrelid::int8, 1259, i.indrelid::int8 FROM pg_index i WHERE i.indexrelid >= 16384
UNION ALL SELECT 2605, c.oid::int8, 1247, c.castsource::int8 FROM pg_cast c WHERE c.oid >= 16384
UNION ALL SELECT 2605, c.oid::int8, 1247, c.casttarget::int8 FROM pg_cast c WHERE c.oid >= 16384
"""
_SILENT = """
SELECT 2606, k.oid::int8 FROM pg_constraint k WHERE k.contype IN ('f', 't')
UNION ALL SELECT 2620, t.oid::int8 FROM pg_trigger t WHERE t.tgisinternal
UNION ALL SELECT 1259, c.oid::int8 FROM pg_class c WHERE c.relkind IN ('S', 't')
"""
_EDGES = """
SELECT d.classid::int8, d.objid::int8, d.refclassid::int8, d.refobjid::int8 FROM pg_depend d
 WHERE d.refobjid >= 16384 AND d.objid >= 16384 AND (d.classid, d.objid) <> (d.refclassid, d.refobjid)
UNION ALL SELECT 1247, t.oid::int8, 1259, t.typrelid::int8 FROM pg_type t WHERE t.typrelid >= 16384
UNION ALL SELECT 1259, i.inhrelid::int8, 1259, i.inhparent::int8 FROM pg_inherits i
UNION ALL SELECT 1259, i.inhparent::int8, 1259, i.inhrelid::int8 FROM pg_inherits i
"""
_SCHEMAS = r"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_toast%' AND nspname NOT LIKE 'pg\_temp\_%'"


async def ask(conn: psycopg.AsyncConnection[Any], query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    return await (await conn.execute(query.encode(), parameters)).fetchall()


class Whole:
    """All of it: ``relations`` by (schema, name), ``reaching`` and ``setters`` as names."""

    def __init__(self, relations: dict[tuple[str, str], Relation], definitions: Definitions, objects: Objects) -> None:
        self.relations = relations
        self.definitions = definitions
        self.objects = objects
        self.reaching: frozenset[str] = frozenset()
        self.setters: frozenset[str] = frozenset()
        self.schemas: frozenset[str] = frozenset()


async def read_whole(conn: psycopg.AsyncConnection[Any], protected: Collection[tuple[str, str]]) -> Whole:
    """Read everything, but for the relations of the server itself."""
    rows = partial(ask, conn)
    found = [catalog_rows.relation(text) for (text,) in await rows(_RELATIONS)]
    definitions = await read_definitions(rows, conn.info.server_version)
    objects = Objects(code=definitions.code)
    for catalogue, oid, name, kind in await rows(_NAMES):
        objects.names[Node(catalogue, oid)] = (name, kind)
    stands_for: dict[Node, list[Node]] = {}
    for catalogue, oid, owner, owner_oid in await rows(_STANDS_FOR):
        stands_for.setdefault(Node(catalogue, oid), []).append(Node(owner, owner_oid))
    silent = {Node(*row) for row in await rows(_SILENT)}
    for a, b, c, d in await rows(_EDGES):
        follower = Node(a, b)
        targets = [] if follower in silent else stands_for.get(follower, [follower])
        objects.dependencies += [(target, Node(c, d)) for target in targets]
    whole = Whole({(r.schema, r.name): r for r in found}, definitions, objects)
    tables = {Node(PG_CLASS, r.oid): r.qualified for r in found if (r.schema, r.name) in protected or r.guards}
    whole.reaching = frozenset(dependents_of(objects, tables, sorted(definitions.always)).names)
    whole.setters = frozenset(setters_of(objects).names) if tables else frozenset()
    whole.schemas = frozenset(name for (name,) in await rows(_SCHEMAS))
    return whole
