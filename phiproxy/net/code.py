"""What a database has beside relations: types, functions, operators, collations. It is read again only when it is another one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from phiproxy.index.table import names
from phiproxy.net.reach import Ask
from phiproxy.net.signatures import read_signatures
from phiproxy.policy import snapshot
from phiproxy.policy.owntypes import OwnType
from phiproxy.policy.reach import ALWAYS, Code, Node
from phiproxy.policy.signatures import Signatures
from phiproxy.sql.ddl.domains import domain_condition

_BODIES = """
SELECT 1255, p.oid::int8, p.prosrc || CASE WHEN p.prosqlbody::text ~ ':funcid 2078 ' THEN ' set_config' ELSE '' END
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal') ORDER BY p.oid
"""
_REMOTE = """
SELECT 1259, f.ftrelid::int8, coalesce(
         (SELECT o.option_value FROM pg_catalog.pg_options_to_table(f.ftoptions) o WHERE o.option_name =
         'table_name'), c.relname) FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_class c ON c.oid =
         f.ftrelid ORDER BY f.ftrelid
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
# Of a name that is there twice (a user's own before the server's, or one of another encoding) all must be deterministic.
_COLLATIONS = """
SELECT c.collname FROM pg_catalog.pg_collation c GROUP BY c.collname HAVING pg_catalog.bool_and(c.collisdeterministic)
"""
_ALWAYS = "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p"


@dataclass(frozen=True)
class Definitions:
    """What was read; ``digest`` is of all of it. ``types`` are also in the signatures, with arrays."""

    code: Code
    always: frozenset[str]
    dynamic: frozenset[str]
    replaced: frozenset[str]
    collations: frozenset[str]
    types: tuple[OwnType, ...]
    signatures: Signatures
    digest: str


async def read_definitions(ask: Ask, server_version: int) -> Definitions:
    """Read all of it. Raises psycopg.Error."""
    bodies = {Node(c, oid): body for c, oid, body in await ask(_BODIES)}
    remote = {Node(c, oid): name for c, oid, name in await ask(_REMOTE)}
    always, dynamic, replaced, collations = [
        frozenset(name for (name,) in await ask(query)) for query in (_ALWAYS, _DYNAMIC, _REPLACED, _COLLATIONS)
    ]
    signatures, own_signatures = await read_signatures(ask, server_version)
    ((own,),) = await ask(snapshot.TYPES)
    types = snapshot.own_types(own, partial(domain_condition, replaced=replaced))
    digest = repr((sorted(dynamic), sorted(replaced), sorted(collations), types, own_signatures))
    running = frozenset(name for name in always if ALWAYS.fullmatch(name))
    return Definitions(Code(bodies, remote), running, dynamic, replaced, collations, types, signatures, digest)
