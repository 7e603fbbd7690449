"""Views over columns that are to be converted, and views over these, with all that they have: they are made again at the switch.

Through the proxy a view's stored query is brought into physical form. A view that the proxy would refuse is a reason not to start.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phiproxy.errors import PhiproxyError
from phiproxy.jobs.column_settings import materialized_settings, security_labels
from phiproxy.jobs.converted_indexes import told
from phiproxy.jobs.dependents import Dependent, spelled
from phiproxy.jobs.index_settings import TABLESPACE, TARGETS, set_targets
from phiproxy.jobs.physical_definitions import PhysicalDefinitions
from phiproxy.jobs.relations import Connection, Part, TableName, may_act_as, rows_of
from phiproxy.plan.converted_views import listed_table, source_of
from phiproxy.plan.stored_query import StoredQuery
from phiproxy.policy.identifiers import literal, quote_ident
from phiproxy.policy.view_rests import is_inner, sealed_in

Q = quote_ident
MATERIALIZED: Final = "CREATE MATERIALIZED VIEW"


@dataclass(frozen=True, slots=True)
class StoredView:
    """A view, or a materialized one, as the server has it. ``reads`` are the oids of those views among them that it is over.

    ``rest`` are statements that give it what it has beside its query, indexes and defaults, which read the same afterwards.
    ``checked``: it has WITH CHECK OPTION. ``readers`` are roles that may read some of its columns.
    """

    stored: StoredQuery
    name: TableName
    owner: str
    materialized: bool
    indexes: tuple[str, ...]
    defaults: tuple[str, ...]
    rest: tuple[str, ...]
    reads: tuple[int, ...]
    rules: tuple[tuple[str, str], ...]
    others: tuple[str, ...]
    may_create: bool
    checked: bool
    readers: tuple[str, ...]

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{'materialized ' if self.materialized else ''}view {spelled(self.name)}"


# A view of whole rows depends on no column of theirs: what stands for one in its stored query has the number 0. That of a join is a
# record (2249), as those of queries are: a view with a join (2) that has one is looked at too.
_VIEWS: Final = """
WITH RECURSIVE hanging(oid) AS (
  SELECT r.ev_class FROM ROWS FROM (pg_catalog.unnest(%s::oid[]), pg_catalog.unnest(%s::text[])) w(oid, name)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = w.oid AND a.attname = w.name
    JOIN pg_catalog.pg_class t ON t.oid = w.oid
    JOIN pg_catalog.pg_depend p ON p.refclassid = 1259 AND p.refobjid = w.oid AND p.classid = 2618
    JOIN pg_catalog.pg_rewrite r ON r.oid = p.objid AND r.rulename = '_RETURN'
   WHERE p.refobjsubid = a.attnum OR r.ev_action::text LIKE '%%:varattno 0 :vartype ' || t.reltype || ' %%'
      OR r.ev_action::text ~ ':varattno 0 :vartype 2249 ' AND r.ev_action::text ~ ':rtekind 2 '
  UNION
  SELECT r.ev_class FROM hanging h
    JOIN pg_catalog.pg_depend p ON p.refclassid = 1259 AND p.refobjid = h.oid AND p.classid = 2618
    JOIN pg_catalog.pg_rewrite r ON r.oid = p.objid AND r.rulename = '_RETURN' AND r.ev_class <> h.oid
)
SELECT c.oid::int8, n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text, c.relkind = 'm',
       pg_catalog.pg_get_viewdef(c.oid), c.relispopulated, coalesce(c.reloptions, '{}')::text[], m.amname::text, t.spcname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT DISTINCT p.refobjid::int8 FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend p
                 ON p.classid = 2618 AND p.objid = r.oid AND p.refclassid = 1259 AND p.refobjid <> c.oid
              WHERE r.ev_class = c.oid AND r.rulename = '_RETURN' ORDER BY 1),
       pg_catalog.has_schema_privilege(c.relowner, n.oid, 'CREATE')
  FROM hanging h JOIN pg_catalog.pg_class c ON c.oid = h.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
 ORDER BY n.nspname, c.relname
"""
_INDEXES: Final = f"""
SELECT pg_catalog.pg_get_indexdef(i.indexrelid), x.relname::text, i.indisclustered,
       pg_catalog.obj_description(i.indexrelid, 'pg_class'), {TARGETS}, {TABLESPACE}
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = %s::oid ORDER BY x.relname
"""
_COMMENTS: Final = """
SELECT CASE WHEN d.objsubid = 0 THEN '' ELSE (SELECT a.attname::text FROM pg_catalog.pg_attribute a
                                               WHERE a.attrelid = d.objoid AND a.attnum = d.objsubid) END, d.description
  FROM pg_catalog.pg_description d WHERE d.classoid = 1259 AND d.objoid = %s::oid ORDER BY d.objsubid
"""
_PRIVILEGES: Final = """
SELECT x.privilege_type::text, '', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END,
       x.is_grantable
  FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) x
 WHERE c.oid = %s::oid
UNION ALL
SELECT x.privilege_type::text, a.attname::text,
       CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END, x.is_grantable
  FROM pg_catalog.pg_attribute a, LATERAL pg_catalog.aclexplode(a.attacl) x WHERE a.attrelid = %s::oid AND NOT a.attisdropped
 ORDER BY 2, 3, 1
"""
_DEFAULTS: Final = """
SELECT a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = %s::oid ORDER BY 1
"""
_RULES: Final = """
SELECT r.rulename::text, pg_catalog.pg_get_ruledef(r.oid), pg_catalog.obj_description(r.oid, 'pg_rewrite')
  FROM pg_catalog.pg_rewrite r WHERE r.ev_class = %s::oid AND r.rulename <> '_RETURN' ORDER BY 1
"""
_TRIGGERS: Final = """
SELECT t.tgname::text, pg_catalog.pg_get_triggerdef(t.oid), t.tgenabled::text, pg_catalog.obj_description(t.oid, 'pg_trigger')
  FROM pg_catalog.pg_trigger t WHERE t.tgrelid = %s::oid AND NOT t.tgisinternal ORDER BY 1
"""
# What hangs on a view, or on the type of its rows, and is neither of its own nor one of these views; statistics would go with it.
_OTHERS: Final = """
SELECT DISTINCT pg_catalog.pg_describe_object(p.classid, p.objid, 0) FROM pg_catalog.pg_depend p
 WHERE (p.deptype = 'n' OR p.classid = 3381) AND (p.refclassid = 1259 AND p.refobjid = %(oid)s::oid
    OR p.refclassid = 1247 AND p.refobjid = (SELECT c.reltype FROM pg_catalog.pg_class c WHERE c.oid = %(oid)s::oid))
   AND NOT (p.classid = 1259 AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = p.objid))
   AND NOT (p.classid = 2618 AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r
                                          WHERE r.oid = p.objid AND r.ev_class = ANY (%(views)s)))
 ORDER BY 1
"""


async def views_over(conn: Connection, columns: Iterable[tuple[Part, Collection[str]]]) -> list[StoredView]:
    """Return the views over columns of relations, and those over them, each behind those that it reads; psycopg.Error."""
    pairs = [(part.oid, name) for part, names in columns for name in sorted(names)]
    rows = await rows_of(conn, _VIEWS, [oid for oid, _ in pairs], [name for _, name in pairs])
    oids = {row[0] for row in rows}
    views = {row[0]: await _view(conn, row, oids) for row in rows}
    ordered: dict[int, StoredView] = {}

    def add(view: StoredView) -> None:
        for oid in view.reads:
            if oid not in ordered:
                add(views[oid])
        ordered[view.stored.oid] = view

    for view in views.values():
        if view.stored.oid not in ordered:
            add(view)
    return list(ordered.values())


async def _view(conn: Connection, row: Sequence[object], oids: Collection[int]) -> StoredView:
    oid, schema, view, owner, materialized, query, populated, options, method, tablespace, columns, reads, may_create = row
    name = (str(schema), str(view))
    assert isinstance(oid, int)
    assert isinstance(options, list)
    assert isinstance(columns, list)
    assert isinstance(reads, list)
    using = f" USING {Q(str(method))}" if materialized and method != "heap" else ""
    settings = [option.partition("=") for option in options]
    given = f" WITH ({', '.join(f'{Q(key)} = {literal(value)}' for key, _, value in settings)})" if settings else ""
    stored = f" TABLESPACE {Q(str(tablespace))}" if materialized and tablespace else ""
    kind = MATERIALIZED if materialized else "CREATE VIEW"
    indexes, rest = await _indexes(conn, oid, name) if materialized else ([], [])
    rules = [(n, text) for n, text, _ in await rows_of(conn, _RULES, oid)]
    others = [text for (text,) in await _named(conn, _OTHERS, {"oid": oid, "views": list(oids)})]
    return StoredView(
        StoredQuery(
            oid, f"{kind} {spelled(name)}", tuple(columns), f"{using}{given}{stored}", str(query).strip().removesuffix(";"),
            ("" if populated else " WITH NO DATA") if materialized else "",
        ),
        name, str(owner), bool(materialized), tuple(indexes), tuple(await _defaults(conn, oid, name)),
        (*rest, *await _rest(conn, oid, name, materialized=bool(materialized))),
        tuple(read for read in reads if read in oids), tuple(rules), tuple(others), bool(may_create),
        any(key == "check_option" for key, _, _ in settings), await _readers(conn, oid),
    )  # fmt: skip


async def _readers(conn: Connection, oid: int) -> tuple[str, ...]:
    """Return the roles that may read single columns of a view."""
    privileges = await rows_of(conn, _PRIVILEGES, oid, oid)
    roles = (role if role == "PUBLIC" else Q(role) for kind, column, role, _ in privileges if kind == "SELECT" and column)
    return tuple(dict.fromkeys(roles))


async def _named(conn: Connection, query: str, values: Mapping[str, object]) -> list[tuple[str]]:
    cursor = await conn.execute(query.encode(), values)
    return [(str(row[0]),) for row in await cursor.fetchall()]


async def _indexes(conn: Connection, oid: int, view: TableName) -> tuple[list[str], list[str]]:
    """Return the definitions of a materialized view's indexes, and what else they have."""
    definitions, rest = [], []
    for definition, name, clustered, comment, targets, tablespace in await rows_of(conn, _INDEXES, oid):
        definitions.append(definition)
        rest += set_targets(spelled((view[0], name)), targets)
        rest += [f"ALTER INDEX {spelled((view[0], name))} SET TABLESPACE {Q(tablespace)}"] if tablespace else []
        if comment is not None:
            rest.append(f"COMMENT ON INDEX {Q(view[0])}.{Q(name)} IS {literal(comment)}")
        if clustered:
            rest.append(f"ALTER MATERIALIZED VIEW {spelled(view)} CLUSTER ON {Q(name)}")
    return definitions, rest


async def _defaults(conn: Connection, oid: int, name: TableName) -> list[str]:
    alter = f"ALTER VIEW {spelled(name)} ALTER COLUMN"
    return [f"{alter} {Q(column)} SET DEFAULT {text}" for column, text in await rows_of(conn, _DEFAULTS, oid)]


async def _rest(conn: Connection, oid: int, name: TableName, *, materialized: bool) -> list[str]:
    """Return the statements that give a view its rules, triggers, privileges and comments."""
    of, kind = spelled(name), "MATERIALIZED VIEW" if materialized else "VIEW"
    statements = []
    for rule, text, comment in await rows_of(conn, _RULES, oid):
        statements.append(text.removesuffix(";"))
        if comment is not None:
            statements.append(f"COMMENT ON RULE {Q(rule)} ON {of} IS {literal(comment)}")
    for trigger, text, enabled, comment in await rows_of(conn, _TRIGGERS, oid):
        statements.append(text)
        if enabled != "O":
            how = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}[enabled]
            statements.append(f"ALTER TABLE {of} {how} TRIGGER {Q(trigger)}")
        if comment is not None:
            statements.append(f"COMMENT ON TRIGGER {Q(trigger)} ON {of} IS {literal(comment)}")
    statements.append(f"DO {literal(_REVOKED.replace('VIEW', literal(of)))}")
    for privilege, column, role, grantable in await rows_of(conn, _PRIVILEGES, oid, oid):
        if is_inner(column):
            continue
        to, option = "PUBLIC" if role == "PUBLIC" else Q(role), " WITH GRANT OPTION" if grantable else ""
        statements.append(f"GRANT {privilege}{f' ({Q(column)})' if column else ''} ON {of} TO {to}{option}")
    for column, comment in await rows_of(conn, _COMMENTS, oid):
        on = f"COLUMN {of}.{Q(column)}" if column else f"{kind} {of}"
        statements.append(f"COMMENT ON {on} IS {literal(comment)}")
    statements += [text for _, text in await security_labels(conn, oid, of, kind)]
    return statements + (await materialized_settings(conn, oid, of) if materialized else [])


_ALREADY: Final = "computes over protected columns already: drop it, and create it again afterwards, through the proxy"
# Which columns a view reads, and the views that it reads.
_READS: Final = """
WITH RECURSIVE read(oid, number) AS (
  SELECT p.refobjid, p.refobjsubid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend p
      ON p.classid = 2618 AND p.objid = r.oid AND p.refclassid = 1259 AND p.refobjid <> r.ev_class AND p.refobjsubid > 0
   WHERE r.ev_class = %s::oid AND r.rulename = '_RETURN'
  UNION
  SELECT p.refobjid, p.refobjsubid FROM read d JOIN pg_catalog.pg_rewrite r ON r.ev_class = d.oid AND r.rulename = '_RETURN'
    JOIN pg_catalog.pg_depend p
      ON p.classid = 2618 AND p.objid = r.oid AND p.refclassid = 1259 AND p.refobjid <> r.ev_class AND p.refobjsubid > 0
)
SELECT c.oid::int8, pg_catalog.format('%%s.%%s', n.nspname, c.relname), a.attname::text,
       EXISTS (SELECT FROM pg_catalog.pg_attribute i WHERE i.attrelid = c.oid AND i.attname = 'phi_view_0' AND c.relkind = 'v')
  FROM read d JOIN pg_catalog.pg_class c ON c.oid = d.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.oid AND a.attnum = d.number ORDER BY 2, 3
"""
# Of a view that was just made: what default privileges have given is not what this view has.
_REVOKED: Final = """
DECLARE phi_role text; BEGIN
  FOR phi_role IN
    SELECT DISTINCT CASE WHEN x.grantee = 0 THEN 'PUBLIC'
                         ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END
    FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) x
   WHERE c.oid = VIEW::pg_catalog.regclass
  LOOP EXECUTE 'REVOKE ALL ON ' || VIEW || ' FROM ' || phi_role; END LOOP; END"""


async def converted_views(
    conn: Connection,
    views: Sequence[StoredView],
    columns: Sequence[tuple[Part, Collection[str]]],
    converter: PhysicalDefinitions,
    obstacles: list[str],
    *,
    opening: bool,
) -> list[Dependent]:
    """Return views as they are made again. ``columns`` are those that are converted: a rule of a view may not name one.

    On the way back (``opening``) only those can be that read the same in both forms, and those that compute over nothing else.
    """
    names = {name for _, own in columns for name in own}
    tables = {part.name for part, _ in columns}
    dependents = []
    for view in views:
        obstacles += await _unable(conn, view) + _rules(view, names)
        computed = sealed_in(view.stored.query) is not None
        why = _listed(view, tables)  # else it would be refused for hidden columns in the list
        if not why and computed:
            why = await _kept(conn, view, columns, converter) if opening else [f"{view.label} {_ALREADY}"]
        elif not why:
            why = await _refused(view, converter, opening=opening)
        obstacles += why
        if not why:
            kind = "MATERIALIZED VIEW" if view.materialized else "VIEW"
            drop = (f"DROP {kind} {spelled(view.name)}",)
            dependents.append(Dependent(view.label, view.owner, drop, (*view.indexes, *view.defaults), view.rest, view=view.stored))
    return dependents


async def _refused(view: StoredView, converter: PhysicalDefinitions, *, opening: bool) -> list[str]:
    """Say why a view cannot be converted."""
    statement = view.stored.statement()
    try:
        made = await converter.view(view.stored)
        indexes = [await converter.definition(definition) for definition in view.indexes]
    except PhiproxyError as refused:
        return [f"{view.label}: {told(refused.message, refused.hint, 'or drop it, with what reads it')}"]
    if opening and (made, indexes) != (statement, list(view.indexes)):
        return [f"{view.label}: its stored query is one over sealed values; drop it, and create it again afterwards"]
    if not converter.computes(view.stored.oid):
        return []
    why, of = [], spelled(view.name)
    if view.checked:
        why.append(f"{view.label} will compute, and WITH CHECK OPTION is not checked by that: ALTER VIEW {of} RESET (check_option)")
    if view.readers:
        roles = ", ".join(view.readers)
        whole = f"{view.label} will compute, so whoever reads it reads it as a whole"
        why.append(f"{whole}: GRANT SELECT ON {of} TO {roles}, and REVOKE what they have on single columns")
    return why


async def _kept(
    conn: Connection, view: StoredView, columns: Sequence[tuple[Part, Collection[str]]], converter: PhysicalDefinitions
) -> list[str]:
    """Say which columns a view computes over that stay sealed."""
    opened = {(part.oid, name) for part, own in columns for name in own}
    why = []
    for oid, relation, name, computing in await rows_of(conn, _READS, view.stored.oid):
        if computing:  # its own rest has that of this view in it
            why.append(f"{view.label} computes over view {relation}, which computes: drop it, and create it again afterwards")
        elif name in converter.sealed_columns(oid) and (oid, name) not in opened:
            why.append(f"{view.label} computes over {relation}.{name} too: decrypt that with it, or drop it")
    why += await _compared(view, converter)
    return list(dict.fromkeys(why))


async def _compared(view: StoredView, converter: PhysicalDefinitions) -> list[str]:
    """Say where the source of a view that computes would be another one in clear: it compares what is sealed by its tags."""
    again = "drop it, and create it again afterwards"
    try:
        source, width = source_of(view.stored.query)
        columns = ", ".join(f"c{n}" for n in range(1, width + 1))
        if await converter.stays(f"{view.stored.create} ({columns}) AS {source}"):
            return []
    except PhiproxyError:
        pass
    return [f"{view.label}: its stored query is one over sealed values; {again}"]


def _listed(view: StoredView, tables: Collection[TableName]) -> list[str]:
    """Say where a view names the columns of a table in a list: the server adds the hidden ones, and goes by where they stand."""
    try:
        table = listed_table(view.stored.query, tables)
    except PhiproxyError:
        return []
    if table is None:
        return []
    how = "make it again without the list, with AS where columns are selected; or drop it, with what reads it"
    return [f"{view.label} names the columns of {spelled(table)} in a list behind an alias, by where they stand: {how}"]


def _rules(view: StoredView, columns: Collection[str]) -> list[str]:
    words = {column: re.compile(rf"(?<!\w){re.escape(Q(column))}(?!\w)") for column in columns}
    named = {rule: next((c for c, word in words.items() if word.search(text)), None) for rule, text in view.rules}
    why = "{}: rule {} does something with {}, which the server cannot see; drop the rule"
    return [why.format(view.label, rule, column) for rule, column in named.items() if column is not None]


async def _unable(conn: Connection, view: StoredView) -> list[str]:
    obstacles = [f"{other} uses {view.label}: drop it, and create it again afterwards" for other in view.others]
    if not await may_act_as(conn, view.owner):
        obstacles.append(f"the service role may not alter {view.label}; for the time of the job: GRANT {Q(view.owner)} TO …")
    if not view.may_create:
        schema, owner = Q(view.name[0]), Q(view.owner)
        obstacles.append(f"{view.label} cannot be made again by its owner: GRANT CREATE ON SCHEMA {schema} TO {owner}")
    return obstacles
