"""How many values of which columns were stored, and rows with them opened: plain numbers, which the metrics take now and then."""

from collections import Counter
from collections.abc import Iterable


class RowCounts:
    """Counters of one database, shared by its tenants. Each is a list of one number, so that hot loops need no look-up."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, ...], list[int]] = {}
        self._stored: dict[str, list[int]] = {}

    def opened(self, columns: Iterable[str]) -> list[int]:
        """Return the counter of rows that have these columns in the result, by ``schema.table.column``."""
        return self._opened.setdefault(tuple(sorted(set(columns))), [0])

    def stored(self, column: str) -> list[int]:
        """Return the counter of values that were sealed for a column."""
        return self._stored.setdefault(column, [0])

    def rows_opened(self) -> Counter[str]:
        """Return for each column how many rows were opened with it so far."""
        counts = Counter[str]()
        for columns, number in list(self._opened.items()):
            for column in columns:
                counts[column] += number[0]
        return counts

    def values_stored(self) -> Counter[str]:
        """Return for each column how many values were sealed so far."""
        return Counter({column: number[0] for column, number in list(self._stored.items())})
