"""The statement that is to be split, and what is known of it: its tables, the types in it, and where it is in the text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from phiproxy.policy.signatures import Type
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.names_and_signatures import Column as Known
from phiproxy.sql.pg_errors.names_and_signatures import Verdict
from phiproxy.sql.result import SourceColumn
from phiproxy.sql.split.estimated_calls import estimated_calls
from phiproxy.sql.split.tables_and_columns import Table, protected_columns, type_of
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.text.token_spans import Spans
from phiproxy.wire.oids import BUILTIN_TYPES

_SAME_EVERYWHERE = frozenset({'pg_catalog."C"', 'pg_catalog."POSIX"', "pg_catalog.ucs_basic"})
_NAME = BUILTIN_TYPES["name"].oid
_COLLATING = frozenset({"CollateClause", "SQLValueFunction", "collClause"})
_LIBRARIES = {"c": "libc", "i": "icu"}


class Calls(NamedTuple):
    """The volatile functions that may be called in outputs that are written, each as often as PostgreSQL calls it.

    ``once``: where the outputs are one row of values; ``each``: where they are written for each row of the query.
    """

    once: Collection[str] = ()
    each: Collection[str] = ()


NO_CALLS = Calls()


@dataclass(frozen=True)
class Whole:
    """A SELECT, ``body``, with its tables and types. Positions are those of the client's text.

    ``waiting`` are the byte offsets of values that no index answers: no source may have what they stand in. ``calls``: the volatile
    functions that may be called in its outputs. ``apart``: no FROM is answered as a whole. ``shows``: the client is shown its
    outputs, and told their types. ``stored``: it is the query of a view. ``kept``: the queries of WITH that stand before the
    sources as the client wrote them, by their names: writes, and what these read.
    """

    a: Analysis
    body: Node
    tables: list[Table]
    verdict: Verdict
    spans: Spans
    waiting: frozenset[int] = frozenset()
    calls: Calls = NO_CALLS
    apart: bool = False
    shows: bool = False
    stored: bool = False
    kept: Mapping[str, Node] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> frozenset[int]:
        """The numbers of its parameters."""
        return self.a.parameter_numbers

    @cached_property
    def estimated(self) -> dict[int, bool]:
        """See ``estimated_calls``."""
        return estimated_calls(self.body)

    @cached_property
    def cte_names(self) -> frozenset[str]:
        """The names of all its queries of WITH."""
        return frozenset(m["ctename"] for m in self.a.whole() if "ctename" in m)

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """All names in it."""
        return frozenset(name for m in self.a.whole() for key in ("fields", "colnames") for name in strings(m.get(key, ())))

    @cached_property
    def lists_stars(self) -> bool:
        """Whether ``p.*`` stands for the columns of ``p`` only, in lists of outputs, and nowhere for a row."""
        messages = self.a.whole()
        listed = {id(only(node)[1]["val"].get("ColumnRef")) for m in messages for node in m.get("targetList", ())}
        starred = (m for m in messages if len(fields := strings(m.get("fields", ()))) > 1 and fields[-1] == "*")
        return all(id(m) in listed for m in starred)

    @cached_property
    def protected(self) -> frozenset[tuple[int, int]]:
        """The (table OID, attnum) of the protected columns of its tables."""
        own = frozenset((t.relation.oid, c.number) for t in self.tables for c in t.columns if c.protected)
        return own | frozenset(key for cte in self.kept.values() for key in self._written_to(cte))

    def _written_to(self, cte: Node) -> Iterable[tuple[int, int]]:
        return protected_columns(self.a, cte["ctequery"], self.cte_names)

    @cached_property
    def writes(self) -> frozenset[str]:
        """The names of the queries of WITH that are writes."""
        return frozenset(name for name, cte in self.kept.items() if "SelectStmt" not in cte["ctequery"])

    def waits(self, start: int, end: int) -> bool:
        """Tell whether a value that no index answers stands in ``start:end``."""
        return any(start <= at < end for at in self.waiting)

    def orders(self) -> frozenset[str]:
        """Return the collation libraries whose order or case may decide: the database's own, and those of columns."""
        own = (c.provider for t in self.tables for c in t.relation.columns if c.collation not in _SAME_EVERYWHERE and c.collation)
        of_views = (library for t in self.tables if t.rest is not None for library in t.rest.orders)
        return frozenset({"", *of_views, *(_LIBRARIES.get(provider, "") for provider in own)})

    def carried(self, column: Known) -> SourceColumn | None:
        """Return a column as a source has it; None where it is not known of what type it is, or that cannot be carried."""
        if column.type is None or column.typmod is None:
            return None
        declared = type_of(self.a.context.catalog, column.type, column.typmod)
        collation = column.collation if column.collation is not None else self.collation_of_computed(column.type)
        if not declared.name or not declared.known or collation is None:
            return None
        if collation and not collation.startswith("pg_catalog."):
            return None
        return SourceColumn(declared, column.typmod, collation)

    def collation_of_computed(self, oid: Type) -> str | None:
        """Return the collation of something computed; None where it may be that of a column, of COLLATE, or of type name."""
        row = self.verdict.signatures.row(self.verdict.signatures.base(oid))
        if row is not None and row.category in "BDGINTU":
            return ""
        of_columns = any(c.collation or c.type_oid == _NAME for t in self.tables for c in t.relation.columns)
        return "" if not of_columns and _COLLATING.isdisjoint(self.a.keys) else None
