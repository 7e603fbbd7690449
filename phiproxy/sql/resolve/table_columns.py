"""The columns of a table as those of a source of FROM: each is made when it is first asked for, since a statement names few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, overload

from phiproxy.policy.catalog import CatalogColumn


class Named(Protocol):
    """A column of a source, under the name by which it can be referred to."""

    @property
    def name(self) -> str:
        """The name."""


C = TypeVar("C", bound=Named)


class TableColumns(Sequence[C]):
    """What ``make`` makes of the columns of a table, which keep their names."""

    __slots__ = ("_columns", "_made", "_make")

    def __init__(self, columns: Sequence[CatalogColumn], make: Callable[[CatalogColumn], C]) -> None:
        self._columns = columns
        self._make = make
        self._made: list[C | None] = [None] * len(columns)

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, at: int) -> C: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[C]: ...

    def __getitem__(self, at: int | slice) -> C | Sequence[C]:
        if isinstance(at, slice):
            return tuple(self)[at]
        made = self._made[at]
        if made is None:
            made = self._made[at] = self._make(self._columns[at])
        return made

    def named(self, name: str) -> list[C]:
        """Return the columns of this name: one, or none."""
        return [self[i] for i, column in enumerate(self._columns) if column.name == name]


def named(columns: Sequence[C], name: str) -> list[C]:
    """Return the columns of this name; a subquery may have several."""
    return columns.named(name) if isinstance(columns, TableColumns) else [c for c in columns if c.name == name]
