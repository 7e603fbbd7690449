"""A view's query as the server has it, in the statement that makes the view again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phiproxy.policy.identifiers import quote_ident

PATH: Final = ("pg_catalog",)
"""The search path under which it was printed: all names are qualified, but the server's own."""


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """The view ``oid``: ``create`` its columns ``options`` AS ``query`` ``tail``."""

    oid: int
    create: str
    columns: tuple[str, ...]
    options: str
    query: str
    tail: str

    def statement(self, query: str | None = None, columns: Sequence[str] | None = None) -> str:
        """Return the statement that makes it, or the same with another query, or with other columns."""
        named = ", ".join(map(quote_ident, self.columns if columns is None else columns))
        return f"{self.create} ({named}){self.options} AS {self.query if query is None else query}{self.tail}"

    def query_of(self, statement: str) -> str:
        """Return the query of a statement that differs from its own in nothing else."""
        return statement.removeprefix(self.statement("").removesuffix(self.tail)).removesuffix(self.tail)
