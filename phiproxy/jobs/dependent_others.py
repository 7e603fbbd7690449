"""What else hangs on columns: statistics, triggers, publications; and what can only be named, with the reason.

Policies, generated columns and functions compute with values that the server will not see any more.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg.rows import tuple_row

from phiproxy.errors import PhiproxyError
from phiproxy.jobs.converted_indexes import plain_text, told
from phiproxy.jobs.dependents import Dependent
from phiproxy.jobs.physical_definitions import PhysicalDefinitions
from phiproxy.jobs.relations import Connection, Part, may_act_as
from phiproxy.policy.identifiers import literal, quote_ident
from phiproxy.policy.protection import ProtectedColumn

Q = quote_ident


@dataclass(frozen=True, slots=True)
class StoredOther:
    """An object as the server has it: ``kind`` says what it is, ``definition`` what made it, ``rest`` what else it has.

    ``seen``: it does something with values. ``drop`` is empty where it can only be named.
    """

    kind: str
    label: str
    columns: tuple[str, ...]
    owner: str = ""
    definition: str = ""
    drop: str = ""
    rest: tuple[str, ...] = ()
    seen: bool = False


# The columns of a relation, among these, that something depends on.
_ON: Final = """
ARRAY(SELECT a.attname::text FROM pg_catalog.pg_depend p
        JOIN pg_catalog.pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
       WHERE p.classid = {catalogue} AND p.objid = {oid} AND p.refclassid = 1259 AND p.refobjid = %(oid)s::oid
         AND a.attname = ANY (%(names)s) ORDER BY 1)"""
_STATISTICS: Final = f"""
SELECT n.nspname::text, s.stxname::text, pg_catalog.pg_get_userbyid(s.stxowner)::text, pg_catalog.pg_get_statisticsobjdef(s.oid),
       coalesce(pg_catalog.to_jsonb(s)->>'stxstattarget', '-1')::int, pg_catalog.obj_description(s.oid, 'pg_statistic_ext'), w.names
  FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace,
       LATERAL (SELECT {_ON.format(catalogue=3381, oid="s.oid")} AS names) w WHERE w.names <> '{{}}' ORDER BY 1, 2
"""
# Where partitions have a trigger of the partitioned table that fires otherwise than that: what it is there, and on which.
_CLONES: Final = """
WITH RECURSIVE clone (oid, tgrelid, tgenabled) AS (
  SELECT c.oid, c.tgrelid, c.tgenabled FROM pg_catalog.pg_trigger c WHERE c.tgparentid = t.oid
  UNION ALL SELECT c.oid, c.tgrelid, c.tgenabled FROM clone JOIN pg_catalog.pg_trigger c ON c.tgparentid = clone.oid)
SELECT ARRAY[clone.tgenabled::text, pg_catalog.format('%%I.%%I', n.nspname, c.relname)]
  FROM clone JOIN pg_catalog.pg_class c ON c.oid = clone.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE clone.tgenabled <> t.tgenabled ORDER BY 1"""
_TRIGGERS: Final = f"""
SELECT t.tgname::text, pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled::text, t.tgqual IS NOT NULL,
       pg_catalog.obj_description(t.oid, 'pg_trigger'), ARRAY({_CLONES}), w.names
  FROM pg_catalog.pg_trigger t, LATERAL (SELECT {_ON.format(catalogue=2620, oid="t.oid")} AS names) w
 WHERE t.tgrelid = %(oid)s::oid AND NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname NOT IN ('~phi_fresh', '~phi_stale')
   AND w.names <> '{{}}' ORDER BY 1
"""
_PUBLICATIONS: Final = f"""
SELECT p.pubname::text, pg_catalog.pg_get_userbyid(p.pubowner)::text, pg_catalog.pg_get_expr(r.prqual, r.prrelid),
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(r.prattrs::int2[]) u(num) JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = r.prrelid AND a.attnum = u.num ORDER BY u.num), w.names
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid,
       LATERAL (SELECT {_ON.format(catalogue=6106, oid="r.oid")} AS names) w
 WHERE r.prrelid = %(oid)s::oid AND w.names <> '{{}}' ORDER BY 1
"""
# What does something with values; a default of another column is that of a generated one.
_SEEN: Final = f"""
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, 0), d.classid::int8, w.names
  FROM pg_catalog.pg_depend d, LATERAL (SELECT {_ON.format(catalogue="d.classid", oid="d.objid")} AS names) w
 WHERE d.refclassid = 1259 AND d.refobjid = %(oid)s::oid AND d.refobjsubid > 0 AND w.names <> '{{}}'
   AND d.classid NOT IN (1259, 2606, 2620, 3381, 6106)
   AND NOT (d.classid = 2604 AND EXISTS (SELECT FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_attribute a
                                             ON a.attrelid = f.adrelid AND a.attnum = f.adnum
                                          WHERE f.oid = d.objid AND f.adrelid = d.refobjid
                                            AND a.attname = ANY (%(names)s || %(own)s)))
   AND NOT (d.classid = 2618 AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
                                          WHERE r.oid = d.objid AND c.relkind IN ('v', 'm')))
 ORDER BY 1
"""
# Publications by which changes of a table are sent that are told by its primary key, where that has one of these columns.
_IDENTITY: Final = """
SELECT p.pubname::text FROM pg_catalog.pg_publication_tables t JOIN pg_catalog.pg_publication p USING (pubname)
  JOIN pg_catalog.pg_class c ON c.oid = %(oid)s::oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE t.schemaname = n.nspname AND t.tablename = c.relname AND (p.pubupdate OR p.pubdelete) AND c.relreplident = 'd'
   AND EXISTS (SELECT FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                WHERE i.indrelid = c.oid AND i.indisprimary AND a.attname = ANY (%(names)s)) ORDER BY 1
"""
# Sequences that would be dropped with a column: those that give an identity column its values, and others.
_SEQUENCES: Final = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, s.relname), a.attname::text, d.deptype = 'i' FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.classid = 1259 AND d.refclassid = 1259 AND d.refobjid = %(oid)s::oid AND d.deptype IN ('a', 'i')
   AND a.attname = ANY (%(names)s) ORDER BY 1
"""
_FIRES: Final = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
_WHY: Final = {
    3256: "a policy over a protected column would compare what the server cannot see; write it over others, or drop it",
    2604: "the server computes it from what it will not see any more; drop it, and let the policy index the expression",
    2618: "a rule does something with values that the server will not see any more; drop it",
    1255: "the function reads it in a body that the server has parsed, and will see encrypted values; drop it",
}


async def others_over(conn: Connection, part: Part, columns: Collection[str], own: Collection[str] = ()) -> list[StoredOther]:
    """Return what else hangs on columns of a relation; ``own`` are generated columns that go with them; psycopg.Error."""
    values = {"oid": part.oid, "names": sorted(columns), "own": sorted(own)}
    found = []
    for schema, name, owner, definition, target, comment, names in await _asked(conn, _STATISTICS, values):
        of = f"{Q(schema)}.{Q(name)}"
        rest = [] if comment is None else [f"COMMENT ON STATISTICS {of} IS {literal(comment)}"]
        rest += [f"ALTER STATISTICS {of} SET STATISTICS {target}"] if target >= 0 else []
        drop = f"DROP STATISTICS {of}"
        label = f"statistics {of}"
        found.append(StoredOther("statistics", label, tuple(names), owner, definition, drop, tuple(rest)))
    for name, definition, enabled, conditional, comment, clones, names in await _asked(conn, _TRIGGERS, values):
        rest = [] if enabled == "O" else [f"ALTER TABLE {part.label} {_FIRES[enabled]} TRIGGER {Q(name)}"]
        rest += [f"ALTER TABLE {clone} {_FIRES[own]} TRIGGER {Q(name)}" for own, clone in clones]
        rest += [] if comment is None else [f"COMMENT ON TRIGGER {Q(name)} ON {part.label} IS {literal(comment)}"]
        drop = f"DROP TRIGGER {Q(name)} ON {part.label}"
        label = f"trigger {name} of {part.label}"
        found.append(StoredOther("trigger", label, tuple(names), part.owner, definition, drop, tuple(rest), seen=conditional))
    # Before PostgreSQL 15 publications have neither lists of columns nor conditions.
    publications = await _asked(conn, _PUBLICATIONS, values) if conn.info.server_version >= 150000 else []
    for name, owner, condition, listed, names in publications:
        of = f" ({', '.join(map(Q, listed))})" if listed else ""
        only = "ONLY " if part.stores else ""
        add = f"ALTER PUBLICATION {Q(name)} ADD TABLE {only}{part.label}{of}{f' WHERE ({condition})' if condition else ''}"
        label, drop = f"publication {name} of {part.label}", f"ALTER PUBLICATION {Q(name)} DROP TABLE {only}{part.label}"
        seen = condition is not None and any(_word(column).search(condition) for column in names)
        found.append(StoredOther("publication", label, tuple(names), owner, add, drop, seen=seen))
    for what, catalogue, names in await _asked(conn, _SEEN, values):
        why = _WHY.get(catalogue, "it does something with values that the server will not see any more; drop it")
        label = what.replace("default value for column", "generated column")
        found.append(StoredOther("", f"{label} over {part.label}.{names[0]}", tuple(names), definition=why))
    for (name,) in await _asked(conn, _IDENTITY, values):
        why = "it sends changes by the primary key, which will be an index on tags; choose another REPLICA IDENTITY by ALTER TABLE"
        found.append(StoredOther("", f"publication {name} of {part.label}", (), definition=why))
    for sequence, column, identity in await _asked(conn, _SEQUENCES, values):
        why = f"it would be dropped with the column that is replaced; ALTER SEQUENCE {sequence} OWNED BY NONE"
        if identity:
            alter = f"ALTER TABLE {part.label} ALTER COLUMN {Q(column)} DROP IDENTITY"
            why = f"the server gives its values, which it cannot seal; {alter}, and let the application give them"
        label = f"{'identity' if identity else f'sequence {sequence}'} of {part.label}.{Q(column)}"
        found.append(StoredOther("", label, (column,), definition=why))
    return found


async def _asked(conn: Connection, query: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
    cursor = conn.cursor(row_factory=tuple_row)
    await cursor.execute(query.encode(), values)
    return await cursor.fetchall()


def _word(column: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w$]){re.escape(Q(column))}(?![\w$])")


async def converted_others(
    conn: Connection,
    others: Sequence[StoredOther],
    columns: Sequence[ProtectedColumn],
    converter: PhysicalDefinitions,
    obstacles: list[str],
    *,
    opening: bool,
) -> list[Dependent]:
    """Return what can be made again, and say of the rest why it cannot (``obstacles``)."""
    dependents = []
    for other in others:
        if not other.drop:
            obstacles.append(f"{other.label}: {other.definition}")
            continue
        if other.seen:
            named = ", ".join(other.columns)
            obstacles.append(f"{other.label}: its condition is about {named}, which the server will not see any more; drop it")
            continue
        if not await may_act_as(conn, other.owner):
            obstacles.append(f"the service role may not alter {other.label}; for the time of the job: GRANT {Q(other.owner)} TO …")
            continue
        made: str | None = other.definition
        if other.kind == "statistics":
            try:
                made = plain_text(other.definition, columns) if opening else await _over_tags(other, converter)
            except PhiproxyError as refused:
                obstacles.append(f"{other.label}: {told(refused.message, refused.hint, 'or drop it')}")
                continue
        if made is None:
            obstacles.append(f"{other.label} is over more than tags that are listed; drop it")
            continue
        dependents.append(Dependent(other.label, other.owner, (other.drop,), (), (made, *other.rest)))
    return dependents


async def _over_tags(other: StoredOther, converter: PhysicalDefinitions) -> str:
    """Return statistics over tags: what an index over the same would go by.

    ``… ON ssn, city FROM public.t`` becomes ``… ON (tag(ssn)), city FROM public.t``.
    """
    head, _, rest = other.definition.partition(" ON ")
    items, _, table = rest.rpartition(" FROM ")
    start = f"CREATE INDEX phi_statistics ON {table} ("
    index = await converter.definition(f"{start}{items})")
    return f"{head} ON {index.removeprefix(start).removesuffix(')')} FROM {table}"
