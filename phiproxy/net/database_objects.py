"""What a database has beside relations: types, functions, operators, collations. It is read again only when it is another one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial

from phiproxy.index.function_table import names
from phiproxy.net.catalog_watch import Version
from phiproxy.net.dependency_reader import Ask
from phiproxy.policy import catalog_rows
from phiproxy.policy.dependencies import ALWAYS, PG_PROC, STATISTICS, Code, Node
from phiproxy.policy.signature_queries import OWN, SERVER, rows
from phiproxy.policy.signatures import Rows, Signatures
from phiproxy.policy.user_types import OwnType
from phiproxy.sql.domain_conditions import domain_condition
from phiproxy.wire.oids import BUILTIN_TYPES

# (oid, name, body, whether it may run what it is given). 2078 is set_config, and 11 pg_catalog; through pg_settings an UPDATE calls
# it. An aggregate has no body. One that has EXECUTE in PL/pgSQL, or is in a language that nothing is known of, may run anything.
_CODE = r"""
SELECT p.oid::int8, p.proname, CASE WHEN l.lanname NOT IN ('c', 'internal') OR p.prosrc IN ('set_config_by_name', 'aggregate_dummy')
       THEN p.prosrc || CASE
         WHEN pg_catalog.concat(p.prosqlbody, p.proargdefaults) ~ ':funcid 2078 ' OR p.prosrc = 'set_config_by_name'
              OR p.prosqlbody::text ~ (SELECT ':relid ' || c.oid || ' ' FROM pg_catalog.pg_class c
                                        WHERE c.relname = 'pg_settings' AND c.relnamespace = 11)
              OR EXISTS (SELECT FROM pg_catalog.pg_aggregate g
                          WHERE g.aggfnoid = p.oid AND 2078 IN (g.aggtransfn, g.aggfinalfn, g.aggmtransfn, g.aggmfinalfn))
         THEN ' set_config' ELSE '' END END,
       l.lanname NOT IN ('sql', 'c', 'internal') AND (l.lanname <> 'plpgsql' OR p.prosrc ~* '\mexecute\M')
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 ORDER BY p.oid
"""
# Stored expressions that do so by themselves. No dependency on functions of the server's own is recorded, so all are looked
# through: once, for through the proxy nobody makes one.
_STORED = r"""
WITH of (calls) AS MATERIALIZED (
  SELECT ':funcid 2078 |:relid ' || c.oid || ' ' FROM pg_catalog.pg_class c WHERE c.relname = 'pg_settings' AND c.relnamespace = 11)
SELECT 1259, w.ev_class::int8 FROM pg_catalog.pg_rewrite w, of
 WHERE w.oid >= 16384 AND pg_catalog.concat(w.ev_action, w.ev_qual) ~ of.calls
UNION SELECT 1259, d.adrelid::int8 FROM pg_catalog.pg_attrdef d, of WHERE d.adbin::text ~ of.calls
UNION SELECT CASE WHEN k.contypid <> 0 THEN 1247 ELSE 1259 END, CASE WHEN k.contypid <> 0 THEN k.contypid ELSE k.conrelid END::int8
        FROM pg_catalog.pg_constraint k, of WHERE k.contype = 'c' AND k.conbin::text ~ of.calls
UNION SELECT 1259, p.polrelid::int8 FROM pg_catalog.pg_policy p, of WHERE pg_catalog.concat(p.polqual, p.polwithcheck) ~ of.calls
UNION SELECT 1259, t.tgrelid::int8 FROM pg_catalog.pg_trigger t, of WHERE t.tgqual::text ~ of.calls
UNION SELECT 1247, t.oid::int8 FROM pg_catalog.pg_type t, of WHERE t.oid >= 16384 AND t.typdefaultbin::text ~ of.calls
"""
# Where statistics are read. Of the tables themselves, which only superusers may read, no dependency is recorded, as above.
_STATISTICS = """
WITH own AS MATERIALIZED (
  SELECT c.oid, c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = 11 AND c.relname = ANY (%s)),
of (reads) AS MATERIALIZED (
  SELECT pg_catalog.string_agg(':relid ' || own.oid || ' ', '|') FROM own WHERE own.relname LIKE 'pg_statistic%%')
SELECT 1259, own.oid::int8, own.relname FROM own
UNION ALL SELECT DISTINCT 1259, w.ev_class::int8, 'pg_statistic' FROM pg_catalog.pg_rewrite w, of
           WHERE w.oid >= 16384 AND pg_catalog.concat(w.ev_action, w.ev_qual) ~ of.reads
UNION ALL SELECT 1255, p.oid::int8, 'pg_statistic' FROM pg_catalog.pg_proc p, of
           WHERE p.oid >= 16384 AND p.prosqlbody::text ~ of.reads
"""
_REMOTE = """
SELECT 1259, f.ftrelid::int8, coalesce(
         (SELECT o.option_value FROM pg_catalog.pg_options_to_table(f.ftoptions) o WHERE o.option_name =
         'table_name'), c.relname) FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_class c ON c.oid =
         f.ftrelid ORDER BY f.ftrelid
"""


def _listed(*types: str) -> str:
    return ", ".join(str(BUILTIN_TYPES[name].oid) for name in types)


# What could be chosen for a text, an enum or a domain in place of the built-in. 11 is pg_catalog.
_TEXTS = _listed("bytea", "text", "unknown", "bpchar", "varchar", "anyelement", "anynonarray", "anycompatible")
_OTHERS = ("octet_length", "concat", "like_escape", "make_date")
# What arithmetic with constants may be taken for.
_DATED = _listed("int2", "int4", "int8", "numeric", "unknown", "date", "timestamp", "timestamptz", "interval")
# What takes something out of a document, or asks whether it holds another.
_DOCUMENTS = _listed("json", "jsonb", "anyelement", "anynonarray", "anycompatible")
_FUNCTIONS = ", ".join(f"'{name}'" for name in sorted({*names(), *_OTHERS}))
_REPLACED = f"""
SELECT o.oprname FROM pg_catalog.pg_operator o
 WHERE o.oid >= 16384 AND o.oprnamespace <> 11 AND o.oprname IN ('=', '<>')
   AND (o.oprleft IN ({_TEXTS}) AND o.oprright IN ({_TEXTS})
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
   AND (o.oprleft IN ({_TEXTS}) OR o.oprright IN ({_TEXTS})
        OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid IN (o.oprleft, o.oprright) AND t.typtype = 'd'))
UNION SELECT o.oprname FROM pg_catalog.pg_operator o
 WHERE o.oid >= 16384 AND o.oprnamespace <> 11 AND o.oprname IN ('+', '-', '*')
   AND o.oprleft IN ({_DATED}) AND o.oprright IN ({_DATED})
UNION SELECT o.oprname FROM pg_catalog.pg_operator o
 WHERE o.oid >= 16384 AND o.oprnamespace <> 11 AND o.oprname IN ('->', '->>', '#>', '#>>', '@>') AND o.oprleft IN ({_DOCUMENTS})
"""
# Of a name that is there twice (a user's own before the server's, or one of another encoding) all must be deterministic.
_COLLATIONS = """
SELECT c.collname FROM pg_catalog.pg_collation c GROUP BY c.collname HAVING pg_catalog.bool_and(c.collisdeterministic)
"""
# The signatures of the server itself, once for each version: there are thousands, and they do not change.
_of_versions: dict[int, Rows] = {}


@dataclass(frozen=True)
class Definitions:
    """What was read; ``digest`` is of all of it. ``types`` are also in the signatures, with arrays.

    ``own_signatures`` and ``own_types`` are what the server said of these: as long as it says the same they are not made anew.
    """

    bodies: Mapping[Node, str]
    remote: Mapping[Node, str]
    code: Code
    always: frozenset[str]
    dynamic: frozenset[str]
    replaced: frozenset[str]
    collations: frozenset[str]
    types: tuple[OwnType, ...]
    signatures: Signatures
    own_signatures: str
    own_types: str = ""
    stored: frozenset[Node] = frozenset()
    statistics: Mapping[Node, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """A text that is another one where anything is."""
        return repr((sorted(self.dynamic), sorted(self.replaced), sorted(self.collations), self.types, self.own_signatures))


_NOTHING = Definitions(
    {}, {}, Code(), frozenset(), frozenset(), frozenset(), frozenset(), (), Signatures(()), ""
)  # fmt: skip


async def read_definitions(
    ask: Ask, server_version: int, before: Definitions | None = None, changed: Collection[str] = Version._fields
) -> Definitions:
    """Read all of it, or what hangs on the parts of ``Version`` that have changed since ``before``. Raises psycopg.Error."""
    of = before or _NOTHING
    parts = frozenset(changed if before is not None else Version._fields)
    bodies, remote, always, dynamic, collations = of.bodies, of.remote, of.always, of.dynamic, of.collations
    replaced, types, signatures = of.replaced, of.types, of.signatures
    own_signatures, own_types = of.own_signatures, of.own_types
    if "code" in parts:
        functions = await ask(_CODE)
        bodies = {Node(PG_PROC, oid): body for oid, _, body, _ in functions if body is not None}
        dynamic = frozenset(name for _, name, _, runs in functions if runs)
        own = frozenset(name for _, name, *_ in functions if ALWAYS.fullmatch(name))
    if "remote" in parts:
        remote = {Node(c, oid): name for c, oid, name in await ask(_REMOTE)}
    stored = of.stored if before is not None else frozenset([Node(c, oid) for c, oid in await ask(_STORED)])
    statistics = of.statistics
    if before is None:
        statistics = {Node(c, oid): name for c, oid, name in await ask(_STATISTICS, (list(STATISTICS),))}
    code = Code(bodies, remote, of.code, stored) if parts & {"code", "remote"} else of.code
    if parts & {"code", "types"}:
        replaced = await _names(ask, _REPLACED)
    if parts & {"code", "types", "collations"}:
        signatures, own_signatures = await read_signatures(ask, server_version, (signatures, own_signatures))
    if "code" in parts:
        always = own | _always(server_version)
    if "collations" in parts:
        collations = await _names(ask, _COLLATIONS)
    if "types" in parts or replaced != of.replaced:
        ((text,),) = await ask(catalog_rows.TYPES)
        if text != own_types or replaced != of.replaced:
            own_types, types = text, catalog_rows.own_types(text, partial(domain_condition, replaced=replaced))
    return Definitions(
        bodies, remote, code, always, dynamic, replaced, collations, types, signatures, own_signatures, own_types, stored,
        statistics,
    )  # fmt: skip


async def _names(ask: Ask, query: str) -> frozenset[str]:
    return frozenset(name for (name,) in await ask(query))


@cache
def _always(version: int) -> frozenset[str]:
    """Return the names among the server's own functions that count as reaching what is protected, whatever is."""
    return frozenset(name for name in _of_versions[version].functions if ALWAYS.fullmatch(name))


async def read_signatures(ask: Ask, version: int, before: tuple[Signatures, str] = (Signatures(()), "")) -> tuple[Signatures, str]:
    """Return the signatures, and what this version says of the database's own; as long as that is so, those of before."""
    if version not in _of_versions:
        ((text,),) = await ask(SERVER)
        _of_versions[version] = rows(text)
    ((own,),) = await ask(OWN)
    told = f"{version} {own}"  # a proxy may outlive an upgrade of the server
    if told == before[1]:
        return before
    return Signatures((_of_versions[version], rows(own))), told
