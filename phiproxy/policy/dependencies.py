"""Which names depend on a protected table? A fixpoint over dependencies and function bodies (spec/sql 1.1).

Plain data in, names out; knows no connection. Conservative by construction: a name too many is a refusal, a name too few a leak.
What no reading can find: SQL that a function glues together from pieces, and what a foreign server does by itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

# Fixed by the source of PostgreSQL (src/include/catalog): the oids of the catalogues that pg_depend speaks of.
PG_CLASS, PG_PROC, PG_EVENT_TRIGGER = 1259, 1255, 3466
# What is below was made by initdb (FirstNormalObjectId).
FIRST_OWN = 16384

# Where the server keeps what ANALYZE has found in all tables, and shows it.
STATISTICS = ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs", "pg_statistic", "pg_statistic_ext_data")

# Functions that run a query or read a table given as text: no token of the statement tells which.
ALWAYS = re.compile(
    r"(?:query|cursor|table|schema|database)_to_xml.*|dblink.*"
    r"|ts_stat|ts_rewrite|crosstab.*|connectby|xpath_table"
)

# What a body says that changes the path or the styles of its session, or which schemas are on its path. Comments stand wherever
# white space does, and may be nested. What is glued together behind SET or RESET, or put there by format(), is anything.
_GAP = r"(?:\s++|--[^\n]*+|/\*[\s\S]*?\*/|\*/)++"
_STYLES = (
    "datestyle|timezone|intervalstyle|bytea_output|extra_float_digits|client_encoding|standard_conforming_strings"
    "|session_authorization|search_path"
)
_ANY = r"""["'%|$\\]"""
_SETS = re.compile(
    rf"\b(?:search_path|pg_settings|discard{_GAP}all)\b"
    rf"|\breset{_GAP}(?:(?:all|role|session|time{_GAP}zone|phiproxy|{_STYLES})\b|{_ANY})"
    rf"|\bset{_GAP}(?:(?:local|session){_GAP})?+(?:(?:role|authorization|time{_GAP}zone|names|schema|phiproxy|{_STYLES})\b|{_ANY})"
    rf"|['$;]\s*+(?:re)?set{_ANY}|\b(?:create|drop|alter){_GAP}(?:schema|extension)\b|\b(?:grant|revoke)\b[^;]{{0,500}}\bschema\b"
    rf"|\bgrant{_GAP}[\w%,]+{_GAP}to\b|\brevoke{_GAP}[\w%,]+{_GAP}from\b",
    re.IGNORECASE,
)
_ASSIGNS = re.compile(
    rf"(\bupdate(?:{_GAP}(?!(?:then|begin|else|loop)\b)(?:\"[^\"]*\"|[\w.$%*])+){{0,5}}?){_GAP}set\b", re.IGNORECASE
)
"""The head of an UPDATE, whose SET sets no setting."""
_CONFIG = re.compile(r"\bset_config\b", re.IGNORECASE)
_OF_OTHERS = re.compile(
    rf"set_config\s*\(\s*'(?!(?:role|phiproxy\.\w*|{_STYLES})')[\w.]+'\s*,", re.IGNORECASE
)
"""It sets a constant setting that says none of these."""
_TOKEN = re.compile(r"[^\W\d][\w$]*")


def changes_session(body: str) -> bool:
    """Tell whether a function of this body may change the path or the styles of its session, or what is on the path, by itself."""
    if any(_OF_OTHERS.match(body, found.start()) is None for found in _CONFIG.finditer(body)):
        return True
    return _SETS.search(_ASSIGNS.sub(r"\1 ", body)) is not None


class Node(NamedTuple):
    """One object as pg_depend names it: (classid, objid)."""

    catalogue: int
    oid: int


class _Body(NamedTuple):
    """What is looked for in a function's body; ``sets``: it may change its session."""

    source: str
    folded: str
    tokens: frozenset[str]
    sets: bool

    @classmethod
    def read(cls, source: str) -> _Body:
        folded = source.lower()
        # literals and comments count: an EXECUTE of text names its tables there
        return cls(source, folded, frozenset(_TOKEN.findall(folded)), changes_session(source))


class Code:
    """Which functions' bodies and which foreign tables mention a name.

    ``bodies``: function -> source text. ``remote``: foreign table -> the remote table's name. What ``before`` has
    looked into is not looked into again. ``setting``: what changes the session by expressions of its own.
    """

    def __init__(
        self,
        bodies: Mapping[Node, str] | None = None,
        remote: Mapping[Node, str] | None = None,
        before: Code | None = None,
        setting: Iterable[Node] = (),
    ) -> None:
        self._by_token: defaultdict[str, list[Node]] = defaultdict(list)
        known = before.bodies if before is not None else {}
        # Most are what they were before some of them were changed.
        self.bodies: dict[Node, _Body] = {
            node: read if (read := known.get(node)) is not None and read.source == body else _Body.read(body)
            for node, body in (bodies or {}).items()
        }
        self.setters = dict.fromkeys(setting, "the session's settings")
        self.setters |= dict.fromkeys((node for node, body in self.bodies.items() if body.sets), "the session's settings")
        for node, body in self.bodies.items():
            for token in body.tokens:
                self._by_token[token].append(node)
        for node, name in (remote or {}).items():
            self._by_token[name.lower()].append(node)

    def mentioning(self, name: str) -> Collection[Node]:
        """Return what mentions a name."""
        folded = name.lower()
        if _TOKEN.fullmatch(folded):
            return self._by_token.get(folded, [])
        quoted = folded.replace('"', '""')
        said = [node for node, body in self.bodies.items() if folded in body.folded or quoted in body.folded]
        return said + self._by_token.get(folded, [])


@dataclass
class Objects:
    """What was read of one database.

    ``names``: node -> (name, kind in words). ``dependencies``: (dependent, referenced), where the table stands for its rules,
    triggers, policies, defaults, checks and indexes, and nothing for what passes nothing on (foreign keys, sequences, TOAST).
    ``code``: what is there by name only. ``cascades``: (table, table that refers to it by a foreign key): what is deleted of the
    one may be deleted of the other, whose triggers are fired.
    """

    names: dict[Node, tuple[str, str]] = field(default_factory=dict)
    dependencies: list[tuple[Node, Node]] = field(default_factory=list)
    code: Code = field(default_factory=Code)
    cascades: list[tuple[Node, Node]] = field(default_factory=list)


@dataclass(frozen=True)
class Dependents:
    """``names``: name -> how it depends on what was asked for, of every name that does; ``nodes`` are all objects on the way."""

    names: dict[str, str]
    nodes: frozenset[Node]


def dependents_of(objects: Objects, protected: Mapping[Node, str], always: Iterable[str] = ()) -> Dependents:
    """Return what depends on the ``protected`` tables (node -> ``schema.table``); ``always`` are functions that run text."""
    dependents = dict.fromkeys(always, "runs SQL or reads tables that are given as text")
    if not protected:
        return Dependents(dependents, frozenset())
    search = _Search(objects, protected, dependents)
    search.run()
    return Dependents(dependents, frozenset(search.root))


def setters_of(objects: Objects) -> Dependents:
    """Return the functions that may change the path or the styles of their session, and all that depends on one."""
    roots = objects.code.setters
    dependents = dependents_of(replace(objects, dependencies=[*objects.dependencies, *objects.cascades]), roots)
    return Dependents(
        dependents.names | {objects.names[node][0]: roots[node] for node in roots if node in objects.names}, dependents.nodes
    )


def statistics_of(objects: Objects, roots: Mapping[Node, str], protected: Collection[Node] = ()) -> Dependents:
    """Return what reads statistics: also those of the ``roots`` (node -> its name) that are not the server's own.

    Of ``protected`` tables there are rules.
    """
    own = {node: (name, "view") for node, name in roots.items() if node.oid < FIRST_OWN}
    found = dependents_of(replace(objects, names=objects.names | own), roots)
    names = (objects.names[node] for node in found.nodes if node in objects.names and node not in protected)
    return Dependents({name: f"{kind} over statistics" for name, kind in names}, found.nodes)


class _Search:
    """The fixpoint: a queue of nodes, and per node the protected table at the end of its chain."""

    def __init__(self, objects: Objects, protected: Mapping[Node, str], dependents: dict[str, str]) -> None:
        self._objects = objects
        self._names = dependents
        self._protected = protected
        self._protected_names = {objects.names[node][0] for node in protected if node in objects.names}
        self.root = dict(protected)
        self._queue = list(protected)
        self._dependents: defaultdict[Node, list[Node]] = defaultdict(list)
        for dependent, referenced in objects.dependencies:
            self._dependents[referenced].append(dependent)

    def run(self) -> None:
        for name in list(self._names):
            # who calls a function that runs text may run it over a protected table
            for node in self._objects.code.mentioning(name):
                self._add(node, "tables named by text")
        while self._queue:
            node = self._queue.pop()
            for follower in (*self._dependents[node], *self._say(node)):
                self._add(follower, self.root[node])

    def _add(self, node: Node, root: str) -> None:
        if node not in self.root:
            self.root[node] = root
            self._queue.append(node)

    def _say(self, node: Node) -> Collection[Node]:
        """Note the node's name, and return who mentions it in a body."""
        if node not in self._objects.names:
            return ()
        name, kind = self._objects.names[node]
        if node not in self._protected and name not in self._protected_names:
            self._names.setdefault(name, f"{kind} over {self.root[node]}")
        return self._objects.code.mentioning(name) if node.catalogue in (PG_CLASS, PG_PROC) else ()
