"""What one verdict knows: the catalogue's signatures, the names that a query sees, and how an error is made.

A column's type is the one that the client sees; None is a type that is not known, of which nothing is ever said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Relation
from phiproxy.policy.signatures import Signatures, Type
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.parse import Node


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source; two of one name are two columns."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of FROM. ``opaque``: it may have other columns than these. ``relation``: the table that it is."""

    alias: str
    columns: tuple[Column, ...]
    schema: str | None = None
    opaque: bool = False
    relation: Relation | None = None


@dataclass(slots=True)
class Level:
    """What the expressions of one query see; ``merged`` are columns that USING made of two, ``star`` what ``*`` is.

    ``barred`` names the place where no aggregate or window function may stand.
    """

    sources: list[Source] = field(default_factory=list)
    merged: list[Column] = field(default_factory=list)
    star: list[Column] = field(default_factory=list)
    outer: Level | None = None
    barred: str = ""

    @property
    def opaque(self) -> bool:
        """Tell whether columns may be seen that are not known."""
        return any(source.opaque for source in self.sources)

    def levels(self) -> Iterator[Level]:
        """Yield this level and those outside."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.outer


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a query's result, and the expression that it is."""

    name: str | None
    type: Type
    node: Node


# None: their number is not known.
Outputs = list[Output] | None


@dataclass(slots=True)
class Verdict:
    """The state of one verdict: names are looked up as the analysis does, ``ctes`` are those in sight.

    ``parameters`` are the types of those that none was declared for, by their numbers: that of a cast where a parameter stands
    first, and else not known.
    """

    a: Analysis
    signatures: Signatures
    ctes: list[dict[str, Source]] = field(default_factory=list)
    parameters: dict[int, Type] = field(default_factory=dict)

    def error(self, error: type[StatementRefused], why: str, offset: int, hint: str) -> StatementRefused:
        """Return PostgreSQL's own error, at a byte offset of the text."""
        return error(why, hint=hint, position=self.a.at(offset))

    def shown(self, oid: Type) -> str:
        """Return what PostgreSQL calls a type."""
        return self.signatures.shown(oid)


def first(node: Node) -> int:
    """Return the byte offset of the first part of an expression (exprLocation)."""
    return min(_places(node), default=0)


def _places(tree: Any) -> Iterator[int]:
    """Yield where the parts of an expression stand; a constant under a cast is the constant, where that stands."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if key == "location" and value >= 0 and "A_Const" not in tree.get("arg", ()):
            yield value
        elif key != "typeName" and isinstance(value, dict | list):
            yield from _places(value)


def resolve(level: Level, names: Sequence[str]) -> tuple[Level, Source | None, Column] | None:
    """Return what a column reference is and where: None where that is not known."""
    *qualifier, name = names
    for seen in level.levels():
        found: list[tuple[Source | None, Column]] = []
        if not qualifier:
            found = [(None, column) for column in seen.merged if column.name == name]
        sources = [s for s in seen.sources if not qualifier or _is(s, qualifier)]
        found = found or [(source, column) for source in sources for column in source.columns if column.name == name]
        if len(found) == 1:
            return seen, *found[0]
        if found or (sources and qualifier) or any(source.opaque for source in sources):
            return None
    return None


def _is(source: Source, qualifier: Sequence[str]) -> bool:
    return source.alias == qualifier[-1] and (len(qualifier) == 1 or source.schema == qualifier[-2])


Rule = Callable[[Verdict, Node, Node, Level], Type]
EXPRESSIONS: dict[str, Rule] = {}
