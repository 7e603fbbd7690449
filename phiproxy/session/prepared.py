"""What the session knows by name: statements and portals, in the one namespace of each that SQL and protocol share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from phiproxy.plan.statement import StatementPlan
from phiproxy.session.pipeline import Expected, Undo

Stamp = tuple[int, tuple[str, ...] | None]


class Group(NamedTuple):
    """What is awaited for Bind, perhaps Describe, and Execute of a statement, the same each time; ``results`` are the formats."""

    plan: StatementPlan
    results: tuple[int, ...] | None
    bound: Expected
    described: Expected | None
    executed: Expected


@dataclass(slots=True)
class Prepared:
    """A statement: its plan, and what it was made from and under. ``stamp`` is (planner's number, search path).

    ``used`` says that it was bound, ``by_sql`` that PREPARE made it. ``groups`` are by what differs between them.
    """

    plan: StatementPlan
    oids: tuple[int, ...]
    stamp: Stamp
    used: bool = False
    by_sql: bool = False
    groups: dict[object, Group] = field(default_factory=dict, compare=False, repr=False)


@dataclass(slots=True)
class Portal:
    """A portal or cursor: the plan bound, the result formats the client asked for (expanded; None where not needed), its group.

    ``oids`` are the statement's, ``binary`` the form in which protected columns come, ``holds`` says WITH HOLD.
    """

    plan: StatementPlan
    formats: tuple[int, ...] | None
    group: int
    oids: tuple[int, ...] = ()
    binary: bool = True
    holds: bool = False


class Names:
    """Statements and portals by name.

    ``group`` is the Sync group that is being sent, ``answered`` the last one that a ReadyForQuery has answered. ``changed`` holds
    the group that last changed a statement (S) or portal (P), while that may not be answered.
    """

    __slots__ = ("answered", "changed", "group", "portals", "statements")

    def __init__(self) -> None:
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.group = 0
        self.answered = -1
        self.changed: dict[tuple[str, bytes], int] = {}

    def prepare(self, name: bytes, prepared: Prepared) -> Undo:
        """Set a statement."""
        undo = self._undo_statement(name)
        self.statements[name] = prepared
        return undo

    def bind(self, name: bytes, portal: Portal) -> Undo:
        """Set a portal."""
        undo = self._undo_portal(name)
        self.portals[name] = portal
        return undo

    def forget_statement(self, name: bytes) -> Undo:
        """Drop a statement (Close, DEALLOCATE, a simple Query for the unnamed one)."""
        undo = self._undo_statement(name)
        self.statements.pop(name, None)
        return undo

    def forget_portal(self, name: bytes) -> Undo:
        """Drop a portal."""
        undo = self._undo_portal(name)
        self.portals.pop(name, None)
        return undo

    def _undo_statement(self, name: bytes) -> Undo:
        self.changed["S", name] = self.group
        return Undo(self.statements, name, self.statements.get(name), lost=not name)

    def _undo_portal(self, name: bytes) -> Undo:
        self.changed["P", name] = self.group
        return Undo(self.portals, name, self.portals.get(name))

    def doubtful(self, kind: str, name: bytes) -> bool:
        """Tell whether the last change of a statement (S) or portal (P) may yet be undone.

        It may when its group is not answered; in the group that is being sent it does not matter, since whatever undoes the change
        skips the rest of the group too.
        """
        return self.answered < self.changed.get((kind, name), self.group) < self.group

    def settle(self, group: int, *, idle: bool) -> None:
        """Note that a group is answered, and whether nothing else is awaited."""
        self.answered = group
        if idle:
            self.changed.clear()

    def end_transaction(self, group: int) -> None:
        """Drop the portals bound in Sync groups up to ``group``: outside a transaction only WITH HOLD lives on (manual 55.2.3)."""
        if self.portals:
            for name in [n for n, p in self.portals.items() if p.group <= group and not p.holds]:
                del self.portals[name]
