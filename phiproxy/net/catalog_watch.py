"""Is what was read of a catalogue still so? Asked each second, so it costs what was read, and not what else a database has.

Of each row that was read the server says its xmin, which is another one after every change to it, and of a table's in pg_class what
it says; of what would be read with it by the same look-up (a name, a reference to something that reaches a protected table), how
many rows there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from phiproxy.net.dependency_reader import Ask
from phiproxy.policy.dependencies import Node

# What a row of pg_class says of a relation. Its xmin is another one too after TRUNCATE, REINDEX and GRANT, which make other files
# and privileges, and no other relation.
_SAYS = (
    "pg_catalog.hash_record_extended(ROW(c.oid, c.relname, c.relnamespace, c.reltype, c.reloftype, c.relowner, c.relkind,"
    " c.relpersistence, c.relnatts, c.relchecks, c.relrowsecurity, c.relforcerowsecurity, c.relispartition, c.reloptions), 0)"
)
# (alias of the rows that are summed up, the rows). Temporary tables of other sessions would make every second one of change,
# so they are apart: a session that names one that is not known has the catalogue read.
_OF_RELATIONS = (
    ("c", "pg_class c WHERE c.oid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("a", "pg_attribute a WHERE a.attrelid = ANY (%(oids)s::pg_catalog.oid[]) AND a.attnum > 0"),
    ("k", "pg_constraint k WHERE k.conrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("k", r"pg_constraint k WHERE k.conname LIKE 'phi\_guard\_%%'"),
    (
        "o",
        r"pg_description o JOIN pg_catalog.pg_constraint k ON k.oid = o.objoid"
        r" WHERE o.classoid = 2606 AND k.conname LIKE 'phi\_guard\_%%'",
    ),
    ("d", "pg_attrdef d WHERE d.adrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    # The sequences of defaults and of identity columns, which are drawn from by their names.
    (
        "c",
        "pg_class c JOIN pg_catalog.pg_depend p ON p.refclassid = 1259 AND p.refobjid = c.oid"
        " JOIN pg_catalog.pg_attrdef d ON p.classid = 2604 AND p.objid = d.oid"
        " WHERE c.relkind = 'S' AND d.adrelid = ANY (%(oids)s::pg_catalog.oid[])",
    ),
    (
        "c",
        "pg_class c JOIN pg_catalog.pg_depend p ON p.classid = 1259 AND p.objid = c.oid WHERE c.relkind = 'S'"
        " AND p.deptype = 'i' AND p.refclassid = 1259 AND p.refobjid = ANY (%(oids)s::pg_catalog.oid[])",
    ),
    ("i", "pg_index i WHERE i.indrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("c", "pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid WHERE i.indrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("w", "pg_rewrite w WHERE w.ev_class = ANY (%(oids)s::pg_catalog.oid[])"),
    ("t", "pg_trigger t WHERE t.tgrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("p", "pg_policy p WHERE p.polrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("i", "pg_inherits i WHERE i.inhrelid = ANY (%(oids)s::pg_catalog.oid[])"),
    ("i", "pg_inherits i WHERE i.inhparent = ANY (%(oids)s::pg_catalog.oid[])"),
)
# A parent depends on nothing of its child: what hangs from the child hangs from the parent too. What calls code that changes the
# session goes by another name once it is renamed, and is no relation that was read.
_REFERENCES = (
    ("c", "pg_class c JOIN nodes n ON n.catalogue = 1259 AND n.oid = c.oid"),
    ("d", "pg_depend d JOIN nodes n ON d.refclassid = n.catalogue AND d.refobjid = n.oid"),
    ("i", "pg_inherits i JOIN nodes n ON n.catalogue = 1259 AND n.oid = i.inhrelid"),
)
_LASTING_NAMED = "pg_catalog.pg_class c WHERE c.relname = ANY (%(names)s::pg_catalog.name[]) AND c.relpersistence <> 't'"
_CODE = (
    ("p", "pg_proc p WHERE p.oid >= 16384"),
    ("o", "pg_operator o WHERE o.oid >= 16384"),
    ("c", "pg_cast c WHERE c.oid >= 16384"),
)
_TYPES = (
    ("e", "pg_enum e"),
    ("k", "pg_constraint k WHERE k.conrelid = 0"),
    ("t", "pg_type t WHERE t.oid = ANY (%(types)s::pg_catalog.oid[])"),
)
_COLLATIONS = (("c", "pg_collation c WHERE c.oid >= 16384"),)
_REMOTE = (("f", "pg_foreign_table f"), ("c", "pg_class c JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = c.oid"))
_TEMPORARY = (
    ("a", "pg_attribute a JOIN temporary t ON t.oid = a.attrelid WHERE a.attnum > 0"),
    ("k", "pg_constraint k JOIN temporary t ON t.oid = k.conrelid"),
    ("d", "pg_attrdef d JOIN temporary t ON t.oid = d.adrelid"),
    ("i", "pg_index i JOIN temporary t ON t.oid = i.indrelid"),
)


def _sum(alias: str, source: str) -> str:
    """Return the query of how many rows there are, and what their xmin add up to, or what they say where they are of pg_class."""
    return _total(_SAYS if source.startswith("pg_catalog.pg_class c") else f"{alias}.xmin::text::int8", source)


def _total(summand: str, source: str) -> str:
    return f"SELECT (pg_catalog.count(*), pg_catalog.sum({summand}))::text FROM {source}"


def _parts(queries: Iterable[tuple[str, str]], *more: str) -> str:
    """Return the query of one text for all of these."""
    union = " UNION ALL ".join((*(_sum(alias, f"pg_catalog.{source}") for alias, source in queries), *more))
    return f"(SELECT pg_catalog.string_agg(p.part, ' ') FROM ({union}) AS p (part))"


_NEW_TYPES = """
SELECT pg_catalog.count(*)::text FROM pg_catalog.pg_type t JOIN lasting l ON l.oid = t.typnamespace
 WHERE t.oid > %(last)s::pg_catalog.oid AND t.typcategory <> 'A' AND t.oid <> ALL (%(types)s::pg_catalog.oid[])
   AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
"""
# What was read names schemas. With one that is dropped goes what is in it; so only that one has another name is looked for.
_RENAMED = """
SELECT pg_catalog.count(*)::text FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::pg_catalog.oid[]),
                                                 pg_catalog.unnest(%(schema_names)s::pg_catalog.name[])) AS k (oid, name)
  JOIN pg_catalog.pg_namespace s ON s.oid = k.oid WHERE s.nspname <> k.name
"""
_LASTING = _sum("l", "lasting l")
# Which schemas of a search path somebody may use hangs on what he is a member of, and whether he is by that, or may do all.
_MEMBERS = (("m", "pg_auth_members m"),)
ROLES = "pg_catalog.pg_roles r WHERE r.rolsuper OR NOT r.rolinherit"  # not all: others come and go
_ROLES = _total("pg_catalog.hash_record_extended(ROW(r.oid, r.rolsuper, r.rolinherit), 0)", ROLES)
_SAME = rf"""
WITH nodes AS MATERIALIZED (
  SELECT * FROM ROWS FROM (pg_catalog.unnest(%(catalogues)s::pg_catalog.oid[]), pg_catalog.unnest(%(objects)s::pg_catalog.oid[]))
             AS n (catalogue, oid)),
lasting AS MATERIALIZED (
  SELECT s.oid, s.xmin FROM pg_catalog.pg_namespace s
   WHERE s.nspname NOT LIKE 'pg\_temp\_%%' AND s.nspname NOT LIKE 'pg\_toast%%'),
named AS MATERIALIZED (
  SELECT c.oid, c.relpersistence, {_SAYS} AS says FROM pg_catalog.pg_class c WHERE c.relname = ANY (%(names)s::pg_catalog.name[])),
temporary AS MATERIALIZED (SELECT d.oid, d.says FROM named d WHERE d.relpersistence = 't')
SELECT {_parts((*_OF_RELATIONS, *_REFERENCES), _RENAMED, _total("d.says", "named d WHERE d.relpersistence <> 't'"))},
       {_parts(_CODE)}, {_parts(_TYPES, _RENAMED, _NEW_TYPES)}, {_parts(_COLLATIONS)}, {_parts(_REMOTE)},
       {_parts(_MEMBERS, _LASTING, _ROLES)}, {_parts(_TEMPORARY, _total("t.says", "temporary t"))},
       (SELECT t.oid::int8 FROM pg_catalog.pg_type t ORDER BY t.oid DESC LIMIT 1),
       pg_catalog.pg_snapshot_xmin(s.now)::text::int8, pg_catalog.pg_snapshot_xmax(s.now)::text::int8
  FROM (SELECT pg_catalog.pg_current_snapshot()) AS s (now)
"""
_ASKED = f"SELECT {_parts(_OF_RELATIONS, _sum('c', _LASTING_NAMED))}"
FIRST = 16384
# Looks at the catalogue.
ALL_TYPES_EVERY = 256


class Version(NamedTuple):
    """What the server said of the rows, by what they are of; ``temporary``: of temporary tables with a name that is known.

    ``code`` is functions, operators and casts; ``remote``: foreign tables; ``paths``: schemas, and who may use them. A schema that
    is renamed makes relations and types others too.
    """

    relations: str
    code: str
    types: str
    collations: str
    remote: str
    paths: str
    temporary: str

    def changed(self, other: Version) -> frozenset[str]:
        """Return the names of the parts in which another version is another one."""
        return frozenset(name for name, mine, others in zip(self._fields, self, other, strict=True) if mine != others)


@dataclass(frozen=True)
class SeenTypes:
    """Up to which oid types need not be looked for any more: each table makes two, and none of them is one of the database's own.

    A transaction that began before may still make a lower one visible, so that the oid of one look holds from the first look on
    at which all transactions of then have ended. Oids begin anew after four billions: now and then all are looked at.
    """

    last: int = FIRST - 1
    _next: int = FIRST - 1
    _xmax: int = 0
    _looks: int = 0

    def after(self, last: int, xmin: int, xmax: int) -> SeenTypes:
        """Return what holds after a look, of which the server has said these."""
        if (self._looks + 1) % ALL_TYPES_EVERY == 0:
            return SeenTypes(_xmax=self._xmax, _looks=self._looks + 1)
        if xmin >= self._xmax:
            return SeenTypes(self._next, last, xmax, self._looks + 1)
        return replace(self, _looks=self._looks + 1)


class Look(NamedTuple):
    """What one look at the catalogue has shown. ``seen`` holds once nothing of it is new, or what is new was read."""

    version: Version
    seen: SeenTypes


@dataclass
class Watch:
    """What was read: oids and ``names`` of relations, ``nodes`` on the way to protected tables, oids of ``types``, ``schemas``.

    The latter by oid; more of them than there are make no difference.
    """

    oids: Collection[int] = ()
    names: Collection[str] = ()
    nodes: Collection[Node] = ()
    types: Collection[int] = ()
    schemas: Mapping[int, str] = field(default_factory=dict)
    seen: SeenTypes = SeenTypes()

    async def look(self, ask: Ask) -> Look:
        """Return a text for each part, which is another one after every change to it. Raises psycopg.Error."""
        ((*parts, last, xmin, xmax),) = await ask(
            _SAME,
            {
                "catalogues": [node.catalogue for node in self.nodes],
                "objects": [node.oid for node in self.nodes],
                "names": list(self.names),
                "oids": list(self.oids),
                "types": list(self.types),
                "schemas": list(self.schemas),
                "schema_names": list(self.schemas.values()),
                "last": self.seen.last,
            },
        )
        return Look(Version(*parts), self.seen.after(last, xmin, xmax))

    def asks_the_same(self, other: Watch) -> bool:
        """Tell whether the other asks for the same rows."""
        mine, others = ((set(w.oids), set(w.names), set(w.nodes), set(w.types)) for w in (self, other))
        return mine == others and self.schemas.items() <= other.schemas.items()


async def version_of(ask: Ask, oids: Collection[int], names: Collection[str]) -> str:
    """Return a text that is another one after every change to relations of these oids and names. Raises psycopg.Error."""
    ((text,),) = await ask(_ASKED, {"oids": list(oids), "names": list(names)})
    return str(text)
