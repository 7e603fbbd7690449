"""The views over expressions of one catalogue: which of them a text may read, and the opening of what computes them."""

from __future__ import annotations

from phiproxy.errors import PhiproxyError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import Protection
from phiproxy.policy.view_rests import read_rest, sealed_in
from phiproxy.sql.split.view_definition import sealed_as

# Where an envelope has the number of its identity (spec/stored-format 2.1).
_NUMBER = slice(9, 11)


class SealedViews:
    """The views of a catalogue that have a sealed rest, by their names, and those that are over them."""

    def __init__(self, protection: Protection, catalog: Catalog) -> None:
        self._columns = {c.number: c for table in protection.tables for c in table.columns.values()}
        stored = {oid: text for oid, text in catalog.views.items() if oid in catalog.by_oid}
        self._unopened = {oid: sealed for oid, text in stored.items() if (sealed := sealed_in(text)) is not None}
        self._names = {oid: catalog.by_oid[oid].name for oid in stored} if self._unopened else {}
        self._stored = {oid: stored[oid].lower() for oid in self._names}

    def open(self, text: bytes, ciphers: Ciphers) -> None:
        """Open the rests of the views that a text may read; KeyNeeded. One that is not authentic stays unopened, hence refused."""
        if not self._unopened:
            return
        named = self._named(text.decode("utf-8", "replace").lower())
        for oid in [oid for oid in self._unopened if oid in named]:
            self._open(oid, ciphers)
            del self._unopened[oid]

    def _open(self, oid: int, ciphers: Ciphers) -> None:
        sealed = self._unopened[oid]
        if sealed in ciphers.views:
            return
        column = self._columns.get(int.from_bytes(sealed[_NUMBER]))
        try:
            if column is not None and not column.distrusted:
                ciphers.views[sealed] = read_rest(ciphers.opened_definition(sealed_as(column), sealed))
        except (PhiproxyError, ValueError, KeyError, TypeError):
            pass  # it was changed, or is of somebody else's database

    def _named(self, text: str) -> set[int]:
        """Return the views whose names stand in a text, and in the stored queries of those."""
        named: set[int] = set()
        texts = [text]
        while texts:
            said = texts.pop()
            found = {oid for oid, name in self._names.items() if oid not in named and name.lower().replace('"', '""') in said}
            named |= found
            texts += [self._stored[oid] for oid in found]
        return named
