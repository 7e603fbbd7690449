"""What statements and cursors are called: as the session knows them, and as the statements of one string change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from phiproxy.errors import StatementRefused
from phiproxy.plan.statement import Columns, StatementPlan
from phiproxy.sql.meaning import Meaning, PlannedStatement, Reveal

if TYPE_CHECKING:
    from phiproxy.plan.cache import Planner, View

Reveals = tuple[Reveal | None, ...]


class KnownNames(Protocol):
    """The names of one session."""

    def statement(self, name: str) -> StatementPlan | None:
        """Return the plan of a prepared statement, right for the present path, policy and catalogue; None where there is none."""

    def portal(self, name: str) -> Columns | None:
        """Return the columns of a cursor or portal, where something protected is among them."""


class _NoNames:
    """Who asks without a session knows none."""

    def statement(self, name: str) -> StatementPlan | None:
        del name
        return None

    def portal(self, name: str) -> Columns | None:
        del name
        return None


NO_NAMES: KnownNames = _NoNames()


class Overlay:
    """The session's names under what the statements before in the same string prepare, declare and drop."""

    def __init__(self, planner: Planner, view: View) -> None:
        self.view = view
        self._planner = planner
        self._statements: dict[str, PlannedStatement | None] = {}
        self._portals: dict[str, Reveals | None] = {}
        self._all_dropped = self._all_closed = False
        self._reaching: set[str] = set()
        self._redefined = False
        self.catalog_changed = False

    def statement(self, name: str) -> PlannedStatement | None:
        """Return the prepared statement of this name."""
        if name in self._statements or self._all_dropped:
            return self._statements.get(name)
        return self.view.names.statement(name)

    def portal(self, name: str) -> Reveals | None:
        """Return the columns of the cursor of this name."""
        if name in self._portals or self._all_closed:
            return self._portals.get(name)
        columns = self.view.names.portal(name)
        return None if columns is None else columns.reveals

    def plan(self, text: bytes, oids: tuple[int, ...]) -> StatementPlan:
        """Plan the statement of a PREPARE, or SQL that is given as text.

        StatementRefused behind what has changed the meaning of protected names, or made one that is in it: that is not known here.
        """
        folded = text.lower()
        if self._redefined or any(name.lower().replace('"', '""').encode() in folded for name in self._reaching):
            raise StatementRefused(
                "a statement before this one in the same string changes what is protected", hint="Send them one by one."
            )
        return self._planner.statement(text, oids, self.view)

    def note(self, meaning: Meaning) -> None:
        """Take over what a statement does to names."""
        effects = meaning.effects
        self.catalog_changed |= effects.catalog_changed
        self._reaching.update(effects.reaches)
        self._redefined |= meaning.unforeseen
        if effects.deallocates_all:
            self._statements.clear()
            self._all_dropped = True
        elif effects.deallocates is not None:
            self._statements[effects.deallocates] = None
        if effects.prepares is not None:
            self._statements[effects.prepares] = meaning.prepared[0] if meaning.prepared is not None else None
        if effects.closes_all:
            self._portals.clear()
            self._all_closed = True
        elif effects.closes is not None:
            self._portals[effects.closes] = None
        if effects.declares is not None:
            self._portals[effects.declares] = meaning.cursor
