"""Relations as the server tells them, one JSON text each: read over the service connection, or in a client's own transaction.

Plain SELECTs over pg_catalog, and none of the pg_get_* functions: they would wait for the locks of a client that changes a table.
"""

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from phiproxy.errors import ConfigError
from phiproxy.policy.catalog import Catalog, CatalogColumn, CatalogIndex, Drawn, Relation
from phiproxy.policy.column_order import logical_order
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.physical_columns import is_computed_default, sealed_conditions, sealed_constant
from phiproxy.policy.plaintext_guards import guarded_fields, guarded_listing, guarded_number
from phiproxy.policy.protection import Check
from phiproxy.policy.signature_queries import OWN
from phiproxy.policy.signature_queries import rows as read_signatures
from phiproxy.policy.signatures import Signatures
from phiproxy.policy.user_types import CITEXT, OwnType, TypeCheck

# ``OFFSET 0`` is for the server's planner: of each column the collation is looked for only where it is not its type's, and of each
# table only its own constraints are looked into, where joins would read all collations, types and constraints for each table.
# Of tgtype 1 is ROW, 2 BEFORE, 4 INSERT, 16 UPDATE, and 64 INSTEAD.
_RELATION = r"""
SELECT pg_catalog.json_build_array(c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relrowsecurity,
         c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
         c.relkind = 'p' OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
         (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, a.attnum, a.atttypid::int8, a.atttypmod, a.attnotnull,
                                     a.atthasdef, a.attgenerated <> '', a.attgenerated = 'v',
                                     CASE WHEN a.atthasdef AND a.atttypid = 17 THEN (
                                       SELECT d.adbin::text FROM pg_catalog.pg_attrdef d
                                        WHERE d.adrelid = c.oid AND d.adnum = a.attnum
                                          AND (d.adbin::text LIKE '{CONST :consttype 17 %'
                                               OR d.adbin::text LIKE '{FUNCEXPR :funcid 1947 %')) END,
                                     l.provider, l.schema, l.name,
                                     CASE WHEN a.attidentity <> '' OR (a.atthasdef AND a.attgenerated = '') THEN (
                                       SELECT pg_catalog.json_build_array(
                                         coalesce(pg_catalog.json_agg(
                                                    DISTINCT CASE f.pronamespace WHEN 11 THEN f.proname ELSE '' END)
                                                    FILTER (WHERE f.provolatile = 'v'), '[]'),
                                         coalesce(pg_catalog.bool_and(f.oid IN (480, 714, 1574)), a.attidentity <> ''),
                                         (SELECT CASE WHEN pg_catalog.count(*) = 1 THEN pg_catalog.min(
                                             pg_catalog.quote_ident(qn.nspname) || '.' || pg_catalog.quote_ident(q.relname)) END
                                            FROM pg_catalog.pg_class q JOIN pg_catalog.pg_namespace qn ON qn.oid = q.relnamespace
                                           WHERE q.relkind = 'S' AND q.oid = ANY (ARRAY(
                                                   SELECT p.refobjid FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_depend p
                                                     ON p.classid = 2604 AND p.objid = d.oid AND p.refclassid = 1259
                                                    WHERE d.adrelid = c.oid AND d.adnum = a.attnum
                                                   UNION ALL SELECT p.objid FROM pg_catalog.pg_depend p
                                                    WHERE a.attidentity <> '' AND p.classid = 1259 AND p.refclassid = 1259
                                                      AND p.refobjid = c.oid AND p.refobjsubid = a.attnum AND p.deptype = 'i'))),
                                         a.attidentity)
                                         FROM pg_catalog.pg_proc f WHERE f.oid IN (
                                           SELECT m.called[1]::oid FROM pg_catalog.pg_attrdef d, LATERAL pg_catalog.regexp_matches(
                                                  d.adbin::text, ':(?:op)?funcid ([0-9]+)', 'g') AS m (called)
                                            WHERE d.adrelid = c.oid AND d.adnum = a.attnum)) END) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a LEFT JOIN LATERAL (
                   SELECT o.collprovider, pg_catalog.quote_ident(ln.nspname), pg_catalog.quote_ident(o.collname)
                     FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace ln ON ln.oid = o.collnamespace
                    WHERE o.oid = a.attcollation AND a.attcollation <> 0
                      AND a.attcollation <> (SELECT ty.typcollation FROM pg_catalog.pg_type ty WHERE ty.oid = a.atttypid)
                   OFFSET 0) AS l (provider, schema, name) ON true
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
         (SELECT pg_catalog.json_agg(DISTINCT u.attnum)
            FROM (SELECT pg_catalog.unnest(k.conkey) FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid = c.oid
                  UNION ALL SELECT pg_catalog.unnest(k.confkey)
                    FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_constraint k ON k.oid = p.objid
                   WHERE p.classid = 2606 AND p.refclassid = 1259 AND p.refobjid = c.oid AND k.contype = 'f'
                     AND k.confrelid = c.oid)
              AS u(attnum)),
         (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conkey[1], k.conbin::text, (
                   SELECT o.description FROM pg_catalog.pg_description o WHERE o.classoid = 2606 AND o.objoid = k.oid))
                   ORDER BY k.conkey)
            FROM pg_catalog.pg_constraint k
           WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conname LIKE 'phi\_guard\_%'),
         (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(ic.relname, x.indisunique, k.oid IS NOT NULL,
                   (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND (a.attnum = ANY (x.indkey) OR EXISTS (
                       SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 1259 AND p.objid = x.indexrelid
                          AND p.refclassid = 1259 AND p.refobjid = c.oid AND p.refobjsubid = a.attnum))),
                   coalesce(k.contype = 'p' AND NOT k.condeferrable, false)) ORDER BY ic.relname)
            FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class ic ON ic.oid = x.indexrelid
            LEFT JOIN pg_catalog.pg_constraint k
                   ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('u', 'p', 'x')
           WHERE x.indrelid = c.oid),
         (SELECT pg_catalog.json_agg(i.inhparent::int8 ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
         (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_partitioned_table t
                   ON t.partrelid = a.attrelid
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND (a.attnum = ANY (t.partattrs) OR EXISTS (
                   SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 1259 AND p.objid = c.oid AND p.objsubid = a.attnum
                      AND p.refclassid = 1259 AND p.refobjid = c.oid AND p.refobjsubid = 0 AND p.deptype = 'i'))),
         EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')
           OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
                      AND (t.tgtype & 64 <> 0 OR t.tgtype & 7 = 7)),
         (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conname, k.convalidated, k.conbin::text) ORDER BY k.conname)
            FROM (SELECT k.* FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' OFFSET 0) AS k
           WHERE k.conbin::text LIKE '%:consttype 17 %:constvalue %[ % -11 80 1 1 %'), c.reltype::int8,
         c.reloptions::text ~* '\msecurity_barrier=(true|on|yes|1|t|y)\M',
         EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polcmd <> '*'),
         EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 3 = 3),
         EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
                    AND t.tgtype & 3 = 2 AND t.tgtype & 20 <> 0))::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r','p','v','m','f') AND n.nspname <> 'pg_toast' AND n.nspname NOT LIKE 'pg\_toast\_temp\_%'
"""
# 11 is pg_catalog; 3079 is pg_extension. What is installed by citext is citext, whatever its schema is called.
TYPES = r"""
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::int8, t.typarray::int8, t.typlen, n.nspname, t.typname,
         CASE WHEN t.typname = 'citext' AND EXISTS (
                SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 1247 AND d.objid = t.oid AND d.refclassid = 3079 AND d.deptype = 'e' AND e.extname = 'citext')
              THEN 'citext' ELSE t.typtype::text END,
         (SELECT pg_catalog.json_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid),
         t.typbasetype::int8, t.typtypmod, t.typnotnull,
         CASE WHEN t.typtype = 'd' AND t.typdefault IS NOT NULL THEN 'has a DEFAULT'
              WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation THEN 'has a COLLATE of its own' ELSE '' END,
         (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conname, pg_catalog.pg_get_expr(k.conbin, 0)) ORDER BY k.conname)
            FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')) ORDER BY t.oid), '[]')::text
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype LEFT JOIN pg_catalog.pg_class r ON r.oid = t.typrelid
 WHERE t.oid >= 16384 AND t.typcategory <> 'A' AND (t.typrelid = 0 OR r.relkind = 'c')
   AND n.nspname <> 'pg_toast' AND n.nspname NOT LIKE 'pg\_temp\_%' AND n.nspname NOT LIKE 'pg\_toast\_temp\_%'
"""
ALL = _RELATION + " ORDER BY c.oid"
# By indexes: however many others there are, they cost nothing.
_NAMED = r"""
SELECT o.oid FROM pg_catalog.pg_class o WHERE o.relname = ANY ({names})
UNION SELECT x.indrelid FROM pg_catalog.pg_class i JOIN pg_catalog.pg_index x ON x.indexrelid = i.oid
       WHERE i.relname = ANY ({names})
UNION SELECT pg_catalog.unnest({oids})
"""
_GUARDED = r" UNION SELECT k.conrelid FROM pg_catalog.pg_constraint k WHERE k.conname LIKE 'phi\_guard\_%' AND k.conrelid <> 0"
# Some relations as in ``ALL``: of these ``names``, with an index of one, of these ``oids``, or with a guard. For psycopg, which
# gives them apart from the text, so that a server that has planned it once need not do so again.
SOME = "{all} AND c.oid IN ({named}{guarded}) ORDER BY c.oid".format(
    all=_RELATION.replace("%", "%%"),
    named=_NAMED.format(names="%(names)s::pg_catalog.name[]", oids="%(oids)s::pg_catalog.oid[]"),
    guarded=_GUARDED.replace("%", "%%"),
)
# Children that code has made in a transaction, without a word of their names.
_CHILDREN = """
UNION (WITH RECURSIVE d (oid) AS (
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = ANY ({oids})
         UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN d ON i.inhparent = d.oid) SELECT d.oid FROM d)
"""
# In a transaction, age() counts from its own id: what it or one of its savepoints wrote is of age 0 or less.
_CHANGED = r"""
   AND (c.relname = ANY ({names}) OR (pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL AND (pg_catalog.age(c.xmin) <= 0
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND pg_catalog.age(a.xmin) <= 0)
        OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND pg_catalog.age(p.xmin) <= 0))))
"""
_ALIVE = r"""
SELECT coalesce(pg_catalog.json_agg(c.oid::int8), '[]')::text FROM pg_catalog.pg_class c WHERE c.oid = ANY ({oids})
UNION ALL (
"""
# The stored queries of views that the transaction has made or replaced, printed as those of others are: under a search path of
# nothing else, so that every name is qualified. Each part of it needs the one before; the path is the client's again at the end.
_VIEWS = r"""
SELECT coalesce((WITH made AS MATERIALIZED (
         SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.rulename = '_RETURN' AND r.ev_type = '1'
            AND pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL AND pg_catalog.age(r.xmin) <= 0),
       before AS MATERIALIZED (
         SELECT pg_catalog.current_setting('search_path') AS path WHERE EXISTS (SELECT FROM made)),
       narrow AS MATERIALIZED (
         SELECT b.path, pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true) FROM before b),
       told AS MATERIALIZED (
         SELECT n.path,
                (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(m.ev_class::int8, pg_catalog.pg_get_viewdef(m.ev_class)))
                   FROM made m WHERE n.path IS NOT NULL)::text AS views
           FROM narrow n)
       SELECT t.views FROM told t WHERE pg_catalog.set_config('search_path', t.path, true) IS NOT NULL), '[]')
"""
# A domain's condition as the server prints it, and the family of what it is over: to the one that the proxy evaluates. ConfigError
# says why there is none.
ReadCheck = Callable[[str, str], bytes]


def _array(values: Iterable[object], type_name: str) -> str:
    quoted = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values)
    return f"ARRAY[{quoted}]::pg_catalog.{type_name}[]"


def changed(base: Catalog, names: Iterable[str]) -> bytes:
    """Return the query of what a transaction sees otherwise than ``base``: oids, types, views, signatures, relations as in ``ALL``.

    ``names`` are those of relations that are told in any case. Needs standard_conforming_strings. Its rows
    are in base64: names may have characters that the client's encoding has not.
    """
    told, oids = _array(sorted(names), "name"), _array(sorted(base.by_oid), "oid")
    relations = _RELATION
    if base.names is not None:
        watched_names = _array(sorted(base.names.union(names)), "name")
        relations += f" AND c.oid IN ({_NAMED.format(names=watched_names, oids=oids)}{_CHILDREN.format(oids=oids)})"
    relations += _CHANGED.format(names=told)
    answers = (
        _ALIVE.format(oids=oids) + TYPES + ") UNION ALL (" + _VIEWS + ") UNION ALL (" + OWN + ") UNION ALL (" + relations + ")"
    )
    return (
        f"SELECT pg_catalog.encode(pg_catalog.convert_to(told.answer, 'UTF8'), 'base64') FROM ({answers}) AS told (answer)".encode()
    )


def relation(text: str) -> Relation:
    """Return the relation of one row."""
    oid, schema, name, kind, row_security, child, parent, columns, in_keys, guards, indexes, *more = json.loads(text)
    parents, parted, diverted, checks, row_type, barrier, by_command, triggers, of_statement = more
    own = tuple(map(_column, columns or ()))
    by_number = {c.attnum: c.name for c in own}
    guarded = [(by_number.get(attnum), guarded_number(definition or "")) for attnum, definition, _ in guards or ()]
    comments = {by_number[attnum]: comment for attnum, _, comment in guards or () if comment and attnum in by_number}
    order = logical_order([c.name for c in own], comments) if comments else None
    place = {name: i for i, name in enumerate(order or ())}
    return Relation(
        oid,
        schema,
        name,
        kind,
        tuple(sorted(own, key=lambda c: place[c.name])) if place else own,
        row_security,
        child,
        parent,
        frozenset(by_number[n] for n in in_keys or () if n in by_number),
        tuple((column, number) for column, number in guarded if column is not None and number is not None),
        tuple(
            CatalogIndex(index, unique, constraint, tuple(touched or ()), key)
            for index, unique, constraint, touched, key in indexes or ()
        ),
        tuple(parents or ()),
        frozenset(parted or ()),
        diverted,
        tuple(_checks(checks or (), by_number)),
        reordered=bool(place),
        unordered=bool(comments) and order is None,
        row_type=row_type,
        barrier=bool(barrier),
        policies_by_command=by_command,
        row_triggers=triggers,
        statement_triggers=of_statement,
        guarded_fields=tuple(
            (by_number[attnum], fields)
            for attnum, definition, _ in guards or ()
            if attnum in by_number and (fields := guarded_fields(definition or ""))
        ),
        guarded_clear=tuple(
            (by_number[attnum], paths)
            for attnum, definition, _ in guards or ()
            if attnum in by_number and (paths := guarded_listing(definition or "")) is not None
        ),
    )


def _column(row: list[Any]) -> CatalogColumn:
    *plain, default, provider, schema, collation, changing = row
    collated = f"{schema}.{collation}" if collation is not None else ""
    sealed = sealed_constant(default)
    constant, computed = (None, sealed) if is_computed_default(default) else (sealed, None)
    column = CatalogColumn(*plain)
    drawn = None
    if changing is not None and (changing[0] or changing[3]):
        names, plain_draw, sequence, identity = changing
        drawn = Drawn(frozenset(names), sequence or "", plain_draw and bool(sequence), identity)
    return replace(column, default=constant, computed_default=computed, collation=collated, provider=provider or "", drawn=drawn)


def _checks(constraints: Iterable[tuple[str, bool, str]], by_number: Mapping[int, str]) -> Iterator[tuple[str, Check]]:
    for name, validated, tree in constraints:
        for attnum, definition in sealed_conditions(tree):
            if attnum in by_number:
                yield by_number[attnum], Check(name, definition, validated)


def own_types(text: str, read_check: ReadCheck) -> tuple[OwnType, ...]:
    """Return the types that ``TYPES`` told of; ``read_check`` reads the conditions of domains."""
    rows: list[list[Any]] = json.loads(text)
    types = {own.oid: own for own in map(_own_type, rows)}
    return tuple(
        replace(own, checks=tuple(_type_check(name, check, _family(own, types), read_check) for name, check in row[-1] or ()))
        for own, row in zip(types.values(), rows, strict=True)
    )


def _own_type(row: list[Any]) -> OwnType:
    oid, array_oid, size, schema, name, kind, labels, base_oid, base_typmod, not_null, obstacle, _ = row
    return OwnType(oid, array_oid, size, schema, name, kind, tuple(labels or ()), base_oid, base_typmod, not_null, obstacle)


def _family(own: OwnType, types: Mapping[int, OwnType]) -> str:
    """Return what a domain is over in the end: the family of a built-in type, ``enum``, ``citext`` or nothing."""
    while (inner := types.get(own.base_oid)) is not None:
        own = inner
    builtin = by_oid(own.base_oid)
    return builtin.family if builtin is not None else {"e": "enum", CITEXT: CITEXT}.get(own.kind, "")


def _type_check(name: str, text: str, family: str, read_check: ReadCheck) -> TypeCheck:
    try:
        return TypeCheck(name, read_check(text, family))
    except ConfigError as error:
        return TypeCheck(name, why=error.message)


def overlaid(
    base: Catalog, rows: Iterable[str], names: Iterable[str], reaching: Mapping[str, str], read_check: ReadCheck
) -> Catalog:
    """Return a catalogue as a transaction sees it: ``base`` with what ``changed`` answered, and names that it made reach.

    ``names`` are those that ``changed`` asked for. Of the others of ``base`` only those are still known whose relations are there:
    one that was dropped, or never was, may have been created since.
    """
    first, types, views, signatures, *changes = (b64decode(row).decode("utf-8") for row in rows)
    alive = set(json.loads(first))
    seen = {r.oid: r for r in base.relations if r.oid in alive}
    seen.update((r.oid, r) for r in map(relation, changes))
    relations = tuple(seen.values())
    all_names = {*names, *(r.name for r in relations), *(index.name for r in relations for index in r.indexes)}
    stored = {**base.views, **{oid: text for oid, text in json.loads(views) if text is not None}}
    return replace(
        base,
        relations=relations,
        names=frozenset(all_names) if base.names is not None else None,
        reaching={**base.reaching, **reaching},
        types=own_types(types, read_check),
        views=stored,
        signatures=Signatures((*base.signatures.parts[:1], read_signatures(signatures))) if base.signatures is not None else None,
    )
