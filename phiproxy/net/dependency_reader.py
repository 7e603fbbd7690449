"""Which objects hang from which: ``pg_depend`` followed from the protected tables on, however large the rest of a database is."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from phiproxy.policy.dependencies import PG_CLASS, Code, Dependents, Node, Objects, dependents_of, setters_of, statistics_of

Ask = Callable[..., Awaitable[list[tuple[Any, ...]]]]
NO_DEPENDENTS = Dependents({}, frozenset())
NOTHING: Mapping[Node, str] = MappingProxyType({})

# In all that follows: 16384 is FirstNormalObjectId (what is below was made by initdb), and catalogues go by their
# fixed oids: 1259 pg_class, 1255 pg_proc, 1247 pg_type, 2617 pg_operator, 2605 pg_cast, 2618 pg_rewrite, 2620
# pg_trigger, 3256 pg_policy, 2604 pg_attrdef, 2606 pg_constraint.
# Each step goes from an object to what depends on it, the row type of a table, and both ways between parents and children. What
# was read then stands for another (a rule for its view, a cast for both of its types), or for nothing: foreign keys and their
# triggers check tags of tables that are named; sequences and TOAST hold no value. Last: (table, table that refers to it), of the
# tables on the way.
_CLOSURE = """
WITH RECURSIVE reached (catalogue, oid, from_catalogue, from_oid) AS (
  SELECT s.catalogue, s.oid, 0::int8, 0::int8 FROM ROWS FROM (pg_catalog.unnest(%s::int8[]), pg_catalog.unnest(%s::int8[]))
               AS s (catalogue, oid)
  UNION
  SELECT t.catalogue, t.oid, r.catalogue, r.oid
    FROM reached r CROSS JOIN LATERAL (
      SELECT d.classid::int8, d.objid FROM pg_catalog.pg_depend d
       WHERE d.refclassid = r.catalogue::pg_catalog.oid AND d.refobjid = r.oid::pg_catalog.oid AND d.objid >= 16384
      UNION ALL SELECT 1247, c.reltype FROM pg_catalog.pg_class c WHERE r.catalogue = 1259 AND c.oid = r.oid::pg_catalog.oid
      UNION ALL SELECT 1259, i.inhrelid FROM pg_catalog.pg_inherits i
                 WHERE r.catalogue = 1259 AND i.inhparent = r.oid::pg_catalog.oid
      UNION ALL SELECT 1259, i.inhparent FROM pg_catalog.pg_inherits i
                 WHERE r.catalogue = 1259 AND i.inhrelid = r.oid::pg_catalog.oid
    ) AS f (catalogue, oid) CROSS JOIN LATERAL (
      SELECT f.catalogue, f.oid::int8 WHERE f.catalogue NOT IN (1259, 2604, 2605, 2606, 2618, 2620, 3256)
      UNION ALL SELECT 1259, c.oid::int8 FROM pg_catalog.pg_class c
                 WHERE f.catalogue = 1259 AND c.oid = f.oid AND c.relkind NOT IN ('S', 't', 'i', 'I')
      UNION ALL SELECT 1259, i.indrelid::int8 FROM pg_catalog.pg_index i WHERE f.catalogue = 1259 AND i.indexrelid = f.oid
      UNION ALL SELECT 1259, d.adrelid::int8 FROM pg_catalog.pg_attrdef d WHERE f.catalogue = 2604 AND d.oid = f.oid
      UNION ALL SELECT 1247, pg_catalog.unnest(ARRAY[c.castsource, c.casttarget])::int8
                  FROM pg_catalog.pg_cast c WHERE f.catalogue = 2605 AND c.oid = f.oid
      UNION ALL SELECT CASE WHEN k.contypid <> 0 THEN 1247 ELSE 1259 END,
                       CASE WHEN k.contypid <> 0 THEN k.contypid ELSE k.conrelid END::int8
                  FROM pg_catalog.pg_constraint k
                 WHERE f.catalogue = 2606 AND k.oid = f.oid AND k.contype NOT IN ('f', 't')
      UNION ALL SELECT 1259, w.ev_class::int8 FROM pg_catalog.pg_rewrite w WHERE f.catalogue = 2618 AND w.oid = f.oid
      UNION ALL SELECT 1259, g.tgrelid::int8 FROM pg_catalog.pg_trigger g
                 WHERE f.catalogue = 2620 AND g.oid = f.oid AND NOT g.tgisinternal
      UNION ALL SELECT 1259, p.polrelid::int8 FROM pg_catalog.pg_policy p WHERE f.catalogue = 3256 AND p.oid = f.oid
    ) AS t (catalogue, oid)
   WHERE t.oid <> 0 AND (t.catalogue, t.oid) <> (r.catalogue, r.oid)
) SELECT catalogue, oid, from_catalogue, from_oid, false FROM reached
UNION SELECT 1259, k.confrelid::int8, 1259, k.conrelid::int8, true FROM reached r CROSS JOIN LATERAL (
        SELECT c.* FROM pg_catalog.pg_constraint c WHERE r.catalogue = 1259 AND c.conrelid = r.oid::pg_catalog.oid OFFSET 0) AS k
       WHERE k.contype = 'f' AND k.confrelid <> k.conrelid
"""
# (catalogue, oid, name, kind in words)
_NAMES = """
WITH wanted AS MATERIALIZED (
  SELECT * FROM ROWS FROM (pg_catalog.unnest(%s::int8[]), pg_catalog.unnest(%s::int8[])) AS w (catalogue, oid)
   WHERE w.oid >= 16384)
SELECT 1259, c.oid::int8, c.relname,
       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                      WHEN 'c' THEN 'composite type' ELSE 'table' END
  FROM wanted w JOIN pg_catalog.pg_class c ON w.catalogue = 1259 AND c.oid = w.oid::pg_catalog.oid
 WHERE c.relkind IN ('r','p','v','m','f','c')
UNION ALL
SELECT 1255, p.oid::int8, p.proname,
       CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END
  FROM wanted w JOIN pg_catalog.pg_proc p ON w.catalogue = 1255 AND p.oid = w.oid::pg_catalog.oid
UNION ALL
SELECT 1247, t.oid::int8, t.typname, CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END
  FROM wanted w JOIN pg_catalog.pg_type t ON w.catalogue = 1247 AND t.oid = w.oid::pg_catalog.oid
UNION ALL
SELECT 2617, o.oid::int8, o.oprname, 'operator'
  FROM wanted w JOIN pg_catalog.pg_operator o ON w.catalogue = 2617 AND o.oid = w.oid::pg_catalog.oid
"""


@dataclass(frozen=True)
class ReadDependents:
    """What reaches protected tables, code that changes the session, and statistics; and all that was read to tell these."""

    dependents: Dependents
    setters: Dependents
    statistics: Dependents = NO_DEPENDENTS
    dependencies: Sequence[tuple[Node, Node]] = ()
    expanded: frozenset[Node] = frozenset()
    cascades: Sequence[tuple[Node, Node]] = ()


async def read_dependents(
    ask: Ask,
    tables: Mapping[int, str],
    code: Code,
    always: Collection[str],
    before: ReadDependents | None = None,
    statistics: Mapping[Node, str] = NOTHING,
) -> ReadDependents:
    """Return what reaches these tables, oid -> ``schema.table``, and ``statistics``, node -> name.

    Code is only found by the names that it mentions, and what hangs from it is read then. ``before`` is what was read when other
    code was there, and the same dependencies: names may be others. Raises psycopg.Error.
    """
    protected = {Node(PG_CLASS, oid): name for oid, name in tables.items()}
    objects, expanded = Objects(code=code), set[Node]()
    if before is not None:
        objects.dependencies, objects.cascades = list(before.dependencies), list(before.cascades)
        expanded.update(before.expanded)
        await _read_names(ask, objects, sorted(expanded))
    while True:
        dependents, setters = dependents_of(objects, protected, always), setters_of(objects)
        of_statistics = statistics_of(objects, statistics, protected)
        watched = dependents.nodes | setters.nodes | of_statistics.nodes
        new = sorted(watched - expanded)
        if not new:
            # Of nothing else it is noticed when it has other dependents than it had.
            dependencies = tuple(pair for pair in objects.dependencies if pair[1] in watched)
            return ReadDependents(dependents, setters, of_statistics, dependencies, watched, tuple(objects.cascades))
        rows = await ask(_CLOSURE, _columns(new))
        edges = {(Node(*row[:2]), Node(*row[2:4])) for row in rows if row[3] and not row[4]}
        nodes = sorted({*new, *(dependent for dependent, _ in edges)})
        await _read_names(ask, objects, nodes)
        objects.dependencies = sorted({*objects.dependencies, *edges})
        objects.cascades = sorted({*objects.cascades, *((Node(*row[:2]), Node(*row[2:4])) for row in rows if row[4])})
        expanded.update(nodes)


async def _read_names(ask: Ask, objects: Objects, nodes: Collection[Node]) -> None:
    for catalogue, oid, name, kind in await ask(_NAMES, _columns(nodes)):
        objects.names[Node(catalogue, oid)] = (name, kind)


def _columns(nodes: Collection[Node]) -> tuple[list[int], list[int]]:
    return [node.catalogue for node in nodes], [node.oid for node in nodes]
