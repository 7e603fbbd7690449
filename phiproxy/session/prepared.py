"""What the session knows by name: statements and portals, in the one namespace of each that SQL and protocol share."""

from __future__ import annotations

from dataclasses import dataclass

from phiproxy.plan.statement import StatementPlan
from phiproxy.session.pipeline import Undo

Stamp = tuple[int, tuple[str, ...] | None]


@dataclass(slots=True)
class Prepared:
    """A statement: its plan, and what it was made from and under. ``stamp`` is (planner's number, search path)."""

    plan: StatementPlan
    oids: tuple[int, ...]
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Portal:
    """A portal: the plan bound, the result formats the client asked for (expanded; None where not needed), its Sync group."""

    plan: StatementPlan
    formats: tuple[int, ...] | None
    group: int


class Names:
    """Statements and portals by name."""

    __slots__ = ("portals", "statements")

    def __init__(self) -> None:
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}

    def prepare(self, name: bytes, prepared: Prepared) -> Undo:
        """Set a statement."""
        undo = Undo(self.statements, name, self.statements.get(name))
        self.statements[name] = prepared
        return undo

    def bind(self, name: bytes, portal: Portal) -> Undo:
        """Set a portal."""
        undo = Undo(self.portals, name, self.portals.get(name))
        self.portals[name] = portal
        return undo

    def forget_statement(self, name: bytes) -> Undo:
        """Drop a statement (Close, DEALLOCATE, a simple Query for the unnamed one)."""
        return Undo(self.statements, name, self.statements.pop(name, None))

    def forget_portal(self, name: bytes) -> Undo:
        """Drop a portal."""
        return Undo(self.portals, name, self.portals.pop(name, None))

    def end_transaction(self, group: int) -> None:
        """Drop the portals bound in Sync groups up to ``group``: outside a transaction none of them lives on (manual 55.2.3)."""
        if self.portals:
            for name in [n for n, p in self.portals.items() if p.group <= group]:
                del self.portals[name]
