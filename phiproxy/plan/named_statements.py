"""What a session's view tells the planner; what statements and cursors are called, as the statements of one string change that."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from phiproxy.errors import StatementRefused
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.sql.result import Answered, PlannedStatement
from phiproxy.types.styles import Styles


class KnownNames(Protocol):
    """The names of one session."""

    def statement(self, name: str) -> StatementPlan | None:
        """Return the plan of a prepared statement, right for the present path, policy and catalogue; None where there is none."""

    def portal(self, name: str) -> Columns | None:
        """Return the columns of a cursor or portal, where something protected is among them."""


@dataclass(slots=True)
class View:
    """What differs between sessions: the search path (None: not known), names made by this session, whether it can be read.

    ``path`` also tells of temporary tables (``plan.search_path``).
    ``path_set``: the path was set in a transaction that may yet take it back.
    ``source``: the text is no client's, but the source of a split, which may read what views over expressions have for it alone.
    """

    path: tuple[str, ...] | None
    database: str
    created: frozenset[str] = frozenset()
    utf8: bool = True
    catalog_fresh: bool = False
    path_set: bool = False
    names: KnownNames | None = field(default=None, compare=False)
    styles: Styles = Styles.CANONICAL
    source: bool = False


class Overlay:
    """The session's names under what the statements before in the same string prepare, declare and drop."""

    def __init__(self, plan: Callable[[bytes, tuple[int, ...], View], StatementPlan], view: View) -> None:
        self.view = view
        self._plan = plan
        self._statements: dict[str, PlannedStatement | None] = {}
        self._portals: dict[str, Columns | None] = {}
        self._all_dropped = self._all_closed = False
        self._reaching: set[str] = set()
        self._redefined = False
        self.catalog_changed = False

    def statement(self, name: str) -> PlannedStatement | None:
        """Return the prepared statement of this name."""
        if name in self._statements or self._all_dropped:
            return self._statements.get(name)
        return self.view.names.statement(name) if self.view.names is not None else None

    def portal(self, name: str) -> Columns | None:
        """Return the columns of the cursor of this name."""
        if name in self._portals or self._all_closed:
            return self._portals.get(name)
        return self.view.names.portal(name) if self.view.names is not None else None

    def plan(self, text: bytes, oids: tuple[int, ...]) -> StatementPlan:
        """Plan the statement of a PREPARE, or SQL that is given as text.

        StatementRefused behind what has changed the answer of protected names, or made one that is in it: that is not known here.
        """
        folded = text.lower()
        if self._redefined or any(name.lower().replace('"', '""').encode() in folded for name in self._reaching):
            raise StatementRefused(
                "a statement before this one in the same string changes what is protected", hint="Send them one by one."
            )
        plan = self._plan(text, oids, self.view)
        if isinstance(plan, SplitPlan):
            # What the server would be told of it is the client's own text, or what its source is.
            raise StatementRefused(
                "a part of this statement is computed over opened rows, which is not in this version where SQL quotes it",
                hint="Send it as a statement of its own, or prepare it by the driver (Parse).",
            )
        return plan

    def note(self, answer: Answered) -> None:
        """Take over what a statement does to names."""
        effects = answer.effects
        self.catalog_changed |= effects.catalog_changed
        self._reaching.update(effects.reaches)
        self._redefined |= answer.unforeseen
        if effects.deallocates_all:
            self._statements.clear()
            self._all_dropped = True
        elif effects.deallocates is not None:
            self._statements[effects.deallocates] = None
        if effects.prepares is not None:
            self._statements[effects.prepares] = answer.prepared[0] if answer.prepared is not None else None
        if effects.closes_all:
            self._portals.clear()
            self._all_closed = True
        elif effects.closes is not None:
            self._portals[effects.closes] = None
        if effects.declares is not None:
            self._portals[effects.declares] = None if answer.cursor is None else Columns(answer.cursor, answer.subjects)
