"""Rows of several tenants in one table: each row is sealed and opened under the keys of its own tenant.

Of a row in plaintext an expression over its columns says whose it is (``--tenant-by``); of a sealed one its values name their key.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from phiproxy.documents.stored_leaves import stored_leaves
from phiproxy.errors import SealError
from phiproxy.jobs.conversion import ConvertedColumn, ConvertedTable
from phiproxy.jobs.filling import Filling, Opening, Verifying
from phiproxy.jobs.row_sql import Done, Row, Work
from phiproxy.jobs.sealed_values import SealedValues, TenantValues, key_id_of
from phiproxy.types.json_types import parse

NONE: Final = SealError("it is of no tenant: the expression of --tenant-by gives NULL, or an empty text")
Values = TenantValues | SealedValues
"""Of a policy without tenants the keys of all rows, else those of each tenant."""
Made = Filling | Opening | Verifying


class TenantRows:
    """Does the work of a table with the rows of each tenant; ``make`` makes that work of a table and a tenant's keys."""

    def __init__(self, make: Callable[[ConvertedTable, TenantValues], Made], table: ConvertedTable, values: SealedValues) -> None:
        self._make = make
        self._table = table
        self._values = values
        self._by_tenant: dict[str, Made] = {}

    @property
    def differing(self) -> int:
        """How many rows differed, of a comparison."""
        return sum(work.differing for work in self._by_tenant.values() if isinstance(work, Verifying))

    async def __call__(self, rows: Sequence[Row]) -> list[Done]:
        """Return what becomes of each row, in their order."""
        done: list[Done] = [None] * len(rows)
        by_tenant: dict[str, list[int]] = {}
        for at, row in enumerate(rows):
            try:
                by_tenant.setdefault(await self._tenant(row), []).append(at)
            except SealError as error:
                done[at] = error
        for tenant, places in by_tenant.items():
            own = [self._bare(rows[at]) for at in places]
            for at, outcome in zip(places, await self._work(tenant)(own), strict=True):
                done[at] = outcome
        return done

    async def _tenant(self, row: Row) -> str:
        if not self._table.opening:
            if not row.values[-1]:
                raise NONE
            return str(row.values[-1])
        unknown: SealError | None = None
        for envelope in self._envelopes(row):
            try:
                return (await self._values.of_key(key_id_of(envelope))).tenant
            except SealError as error:  # of a document it may be what an application has written to a place in clear
                unknown = error
        if unknown is not None:
            raise unknown
        return ""

    def _envelopes(self, row: Row) -> Iterator[bytes]:
        """Yield what is sealed of a row: its values, and the leaves of its documents. They are the last of what was read."""
        for column, value in zip(self._table.columns, row.values[-len(self._table.columns) :], strict=True):
            if value is not None and column.column.document is None:
                yield value
            elif value is not None:
                yield from (envelope for _, envelope in stored_leaves(parse(value.encode())))

    def _bare(self, row: Row) -> Row:
        return row if self._table.opening else Row(row.key, row.values[:-1])

    def _work(self, tenant: str) -> Made:
        if tenant not in self._by_tenant:
            columns = tuple(_of_tenant(c, tenant) for c in self._table.columns)
            self._by_tenant[tenant] = self._make(replace(self._table, columns=columns), self._values.of_tenant(tenant))
        return self._by_tenant[tenant]


def _of_tenant(column: ConvertedColumn, tenant: str) -> ConvertedColumn:
    source = column.source.with_tenant(tenant) if column.source is not None else None
    return replace(column, column=column.column.with_tenant(tenant), source=source)


def filling(table: ConvertedTable, values: Values) -> Work:
    """Return what fills the hidden columns of a table."""
    make: type[Filling | Opening] = Opening if table.opening else Filling
    return make(table, values) if isinstance(values, TenantValues) else TenantRows(make, table, values)


def verifying(table: ConvertedTable, values: Values) -> Verifying | TenantRows:
    """Return what compares the hidden columns of a table with the others."""
    return Verifying(table, values) if isinstance(values, TenantValues) else TenantRows(Verifying, table, values)
