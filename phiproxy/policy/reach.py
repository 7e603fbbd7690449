"""Through which names can a protected table be reached? A fixpoint over dependencies and function bodies (sql.md section 1).

Plain data in, names out; knows no connection. Conservative by construction: a name too many is a refusal, a name
too few a leak. What no reading can find: SQL that a function glues together from pieces, and what a foreign server
does by itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Fixed by the source of PostgreSQL (src/include/catalog): the oids of the catalogues that pg_depend speaks of.
PG_CLASS, PG_PROC = 1259, 1255

# Functions that run a query or read a table given as text: no token of the statement tells which.
ALWAYS = re.compile(
    r"(?:query|cursor|table|schema|database)_to_xml.*|dblink.*"
    r"|ts_stat|ts_rewrite|crosstab.*|connectby|xpath_table"
)

# What a body says that changes the path or the styles of its session; a set_config of a constant setting says of which.
_STYLES = (
    "datestyle|timezone|intervalstyle|bytea_output|extra_float_digits|client_encoding|standard_conforming_strings"
    "|session_authorization|search_path"
)
_SETS = re.compile(
    rf"\b(?:search_path|pg_settings|discard\s+all|reset\s+(?:all|role|session|{_STYLES}))\b"
    rf"|\bset\s+(?:(?:local|session)\s+)?(?:\"?(?:{_STYLES})\b|(?:role|authorization|time\s+zone|names|schema)\b(?!\s*=))"
    rf"|\bset_config\s*\(\s*(?:'(?:role|{_STYLES})'|[^'\s])|\bset_config\b(?!\s*\()",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\W\d][\w$]*")


def changes_session(body: str) -> bool:
    """Tell whether a function of this body may change the path or the styles of its session by itself."""
    return _SETS.search(body) is not None


class Node(NamedTuple):
    """One object as pg_depend names it: (classid, objid)."""

    catalogue: int
    oid: int


class Code:
    """Which functions' bodies and which foreign tables mention a name.

    ``bodies``: function -> source text. ``remote``: foreign table -> the remote table's name.
    """

    def __init__(self, bodies: Mapping[Node, str] | None = None, remote: Mapping[Node, str] | None = None) -> None:
        self._by_token: defaultdict[str, list[Node]] = defaultdict(list)
        self._folded = {node: body.lower() for node, body in (bodies or {}).items()}
        self.setters = {node: "the session's settings" for node, body in (bodies or {}).items() if changes_session(body)}
        for node, body in self._folded.items():
            # literals and comments count: an EXECUTE of text names its tables there
            for token in set(_TOKEN.findall(body)):
                self._by_token[token].append(node)
        for node, name in (remote or {}).items():
            self._by_token[name.lower()].append(node)

    def mentioning(self, name: str) -> Collection[Node]:
        """Return what mentions a name."""
        folded = name.lower()
        if _TOKEN.fullmatch(folded):
            return self._by_token.get(folded, [])
        quoted = folded.replace('"', '""')
        return [n for n, body in self._folded.items() if folded in body or quoted in body] + self._by_token.get(folded, [])


@dataclass
class Objects:
    """What was read of one database.

    ``names``: node -> (name, kind in words). ``edges``: (dependent, referenced), where the table stands for its rules, triggers,
    policies, defaults, checks and indexes, and nothing for what passes nothing on (foreign keys, sequences, TOAST). ``code``: what
    is there by name only.
    """

    names: dict[Node, tuple[str, str]] = field(default_factory=dict)
    edges: list[tuple[Node, Node]] = field(default_factory=list)
    code: Code = field(default_factory=Code)


@dataclass(frozen=True)
class Reach:
    """``names``: name -> how it reaches what was asked for, for every name that does; ``nodes`` are all objects on the way."""

    names: dict[str, str]
    nodes: frozenset[Node]


def reaching(objects: Objects, protected: Mapping[Node, str], always: Iterable[str] = ()) -> Reach:
    """Return what reaches a protected table.

    ``protected`` maps the tables' nodes to ``schema.table``; ``always`` are functions that run text.
    """
    found = dict.fromkeys(always, "runs SQL or reads tables that are given as text")
    if not protected:
        return Reach(found, frozenset())
    search = _Search(objects, protected, found)
    search.run()
    return Reach(found, frozenset(search.root))


def setting(objects: Objects) -> Reach:
    """Return the functions that may change the path or the styles of their session, and all that reaches one."""
    roots = objects.code.setters
    found = reaching(objects, roots)
    return Reach(found.names | {objects.names[node][0]: roots[node] for node in roots if node in objects.names}, found.nodes)


class _Search:
    """The fixpoint: a queue of nodes, and per node the protected table at the end of its chain."""

    def __init__(self, objects: Objects, protected: Mapping[Node, str], found: dict[str, str]) -> None:
        self._objects = objects
        self._found = found
        self._protected = protected
        self._protected_names = {objects.names[node][0] for node in protected if node in objects.names}
        self.root = dict(protected)
        self._queue = list(protected)
        self._dependents: defaultdict[Node, list[Node]] = defaultdict(list)
        for dependent, referenced in objects.edges:
            self._dependents[referenced].append(dependent)

    def run(self) -> None:
        for name in list(self._found):
            # who calls a function that runs text may run it over a protected table
            for node in self._objects.code.mentioning(name):
                self._reach(node, "tables named by text")
        while self._queue:
            node = self._queue.pop()
            for follower in (*self._dependents[node], *self._say(node)):
                self._reach(follower, self.root[node])

    def _reach(self, node: Node, root: str) -> None:
        if node not in self.root:
            self.root[node] = root
            self._queue.append(node)

    def _say(self, node: Node) -> Collection[Node]:
        """Note the node's name, and return who mentions it in a body."""
        if node not in self._objects.names:
            return ()
        name, kind = self._objects.names[node]
        if node not in self._protected and name not in self._protected_names:
            self._found.setdefault(name, f"{kind} over {self.root[node]}")
        return self._objects.code.mentioning(name) if node.catalogue in (PG_CLASS, PG_PROC) else ()
