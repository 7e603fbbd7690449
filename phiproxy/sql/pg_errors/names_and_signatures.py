"""What the check of one statement knows: the catalogue's signatures, the names that a query sees, and how errors are raised.

A column has the type that the client sees. A type of None is not known, and nothing is rejected for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from phiproxy.errors import StatementRefused
from phiproxy.frozen import dataclass
from phiproxy.policy.catalog import Relation
from phiproxy.policy.signatures import Signatures, Type
from phiproxy.sql.context import Analysis
from phiproxy.sql.resolve.scope import SYSTEM_COLUMNS
from phiproxy.sql.resolve.table_columns import named
from phiproxy.sql.text.parse import Node


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source; a source may have several of one name. ``origin``: the (table OID, attnum) that the client is told.

    ``typmod`` and ``collation``, as SQL, are None where they are not known; the latter is empty where it is that of the type.
    ``row_of``: the OID of the table of which it is a whole row, 0 of any other.
    """

    name: str
    type: Type
    origin: tuple[int, int] | None = None
    typmod: int | None = None
    collation: str | None = None
    row_of: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """An item of FROM. ``opaque``: it may have further columns. ``relation``: the table that it is.

    ``counted``: an opaque one has as many columns as these, of which the names are not known.
    """

    alias: str
    columns: Sequence[Column]
    schema: str | None = None
    opaque: bool = False
    relation: Relation | None = None
    counted: bool = False


@dataclass(slots=True)
class Level:
    """What the expressions of one query see: ``sources``, the columns that USING ``merged``.

    ``own_star`` are the columns of ``*`` where they are not those of the sources.
    ``barred`` is the clause that the expression is in, if that takes no aggregate, no window function and, but where it
    ``gives_sets``, no function that gives a set.
    ``unreachable`` is the target of an UPDATE or DELETE while its FROM is read: it is in sight there, and nothing may refer to it.
    ``windows`` are the names of WINDOW.
    """

    sources: list[Source] = field(default_factory=list)
    merged: list[Column] = field(default_factory=list)
    own_star: list[Column] | None = None
    outer: Level | None = None
    barred: str = ""
    gives_sets: bool = False
    unreachable: Source | None = None
    windows: frozenset[str] = frozenset()

    @property
    def star(self) -> list[Column]:
        """The columns of ``*``."""
        return [column for source in self.sources for column in source.columns] if self.own_star is None else self.own_star

    @property
    def opaque(self) -> bool:
        """Tell whether there may be columns that are not known."""
        return any(source.opaque for source in self.sources)

    def levels(self) -> Iterator[Level]:
        """Yield this level and those outside, the innermost first."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.outer


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a query, and its expression; ``column`` is what it is by name, where it is no more than that."""

    name: str | None
    type: Type
    node: Node
    column: Column | None = None

    @property
    def origin(self) -> tuple[int, int] | None:
        """The (table OID, attnum) that the client is told; of a row of a table the latter is 0."""
        if self.column is None:
            return None
        return (self.column.row_of, 0) if self.column.row_of else self.column.origin


# None: their number is not known.
Outputs = list[Output] | None


@dataclass(frozen=True, slots=True)
class Rules:
    """Which function knows the type of which expression, and the columns of which query. The one table is ``rules.RULES``."""

    expressions: Mapping[str, Callable[[Verdict, Node, Node, Level], Type]]
    queries: Mapping[str, Callable[[Verdict, Node, Level | None], Outputs]]


@dataclass(slots=True)
class Verdict:
    """The state of one check. Names are looked up in ``a``; ``ctes`` are the CTEs in sight.

    ``parameters`` are the types of undeclared parameters by number: that of the cast where one occurs first, else not known.
    ``levels`` are what queries see, by the ids of their bodies; ``types`` those of expressions, by the ids of theirs.
    ``sent``: the server is to have the statement as it is, and says itself what it finds only behind constants that cannot be read.
    ``refused``: it is refused already, so that what PostgreSQL says behind all else is looked for too.
    ``once``: the numbers of undeclared parameters that stand at one place only, and so are like literals.
    """

    a: Analysis
    signatures: Signatures
    rules: Rules
    ctes: list[dict[str, Source]] = field(default_factory=list)
    parameters: dict[int, Type] = field(default_factory=dict)
    levels: dict[int, Level] = field(default_factory=dict)
    types: dict[int, Type] = field(default_factory=dict)
    sent: bool = False
    refused: bool = False
    once: frozenset[int] = frozenset()

    def error(self, error: type[StatementRefused], why: str, offset: int, hint: str) -> StatementRefused:
        """Return PostgreSQL's own error, at a byte offset of the text."""
        return error(why, hint=hint, position=self.a.at(offset))

    def shown(self, oid: Type) -> str:
        """Return PostgreSQL's name of a type."""
        return self.signatures.shown(oid)


def first(node: Node) -> int:
    """Return the byte offset of the first part of an expression (exprLocation)."""
    return min(_locations(node), default=0)


def _locations(tree: Any) -> Iterator[int]:
    """Yield the locations of the parts of an expression; a constant under a cast counts, not the cast."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if key == "location" and value >= 0 and "A_Const" not in tree.get("arg", ()):
            yield value
        elif key != "typeName" and isinstance(value, dict | list):
            yield from _locations(value)


def resolve(level: Level, names: Sequence[str]) -> tuple[Level, Source | None, Column] | None:
    """Return the column that a reference means, with its level and source; None where that is not known."""
    *qualifier, name = names
    for seen in level.levels():
        owned: list[tuple[Source | None, Column]] = []
        if seen.merged and not qualifier:
            owned = [(None, column) for column in seen.merged if column.name == name]
        sources = [s for s in seen.sources if _is(s, qualifier)] if qualifier else seen.sources
        owned = owned or [(source, column) for source in sources for column in named(source.columns, name)]
        if len(owned) == 1:
            return seen, *owned[0]
        if owned or (sources and qualifier) or any(source.opaque for source in sources):
            return None
    return None


def known_column(level: Level, names: Sequence[str]) -> Column | None:
    """Return the column that a reference means; None where that is not known, and for a row."""
    resolved = resolve(level, names) if "*" not in names and "" not in names else None
    return resolved[2] if resolved is not None else None


def known_row(level: Level, names: Sequence[str]) -> Source | None:
    """Return the source of which a reference without a dot means a row; None of a column: one of a query outside comes first."""
    if len(names) != 1 or resolve(level, names) is not None:
        return None
    return next((source for seen in level.levels() for source in seen.sources if source.alias == names[0]), None)


def unreachable(level: Level, names: Sequence[str]) -> Source | None:
    """Return the target of a write that a reference in its FROM means, as a column, a row, or all of its columns; else None."""
    *qualifier, name = names
    targets = [seen.unreachable for seen in level.levels() if seen.unreachable is not None]
    if not targets:
        return None
    sources = [[one for one in (seen.unreachable, *seen.sources) if one is not None] for seen in level.levels()]
    if qualifier:
        found = next((one for of_level in sources for one in of_level if _is(one, qualifier)), None)
    else:
        found = next((one for of_level in sources for one in of_level if _owns(one, name) or one.opaque), None)
        # A row comes behind all columns, those of queries outside too.
        found = found or next((one for of_level in sources for one in of_level if one.alias == name), None)
    return found if any(found is target for target in targets) and found is not None and not found.opaque else None


def _owns(source: Source, name: str) -> bool:
    return bool(named(source.columns, name)) or (name in SYSTEM_COLUMNS and source.relation is not None)


def _is(source: Source, qualifier: Sequence[str]) -> bool:
    return source.alias == qualifier[-1] and (len(qualifier) == 1 or source.schema == qualifier[-2])
