"""What the session knows by name: statements and portals, in the one namespace of each that SQL and protocol share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.plan.values_no_index_answers import Unanswered
from phiproxy.session.pipeline import Expected, Undo
from phiproxy.session.state_parts import SyncGroups
from phiproxy.wire.fields import Bind

Stamp = tuple[int, tuple[str, ...] | None]
T = TypeVar("T")


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

    ``used`` says that it was bound, ``by_sql`` that PREPARE made it. ``groups`` are by what differs between them. Where it is split
    for the values that were bound last (``session.split_at_bind``), ``unsplit`` is its plan for others, ``waiting`` are they.
    ``read`` is how constants were read then (``ValueStyles``). ``lost`` is the stamp under which the server could not prepare it
    anew, so that it has it no longer: PostgreSQL still would.
    """

    plan: StatementPlan
    oids: tuple[int, ...]
    stamp: Stamp
    used: bool = False
    by_sql: bool = False
    unsplit: StatementPlan | None = None
    waiting: Unanswered | None = None
    lost: Stamp | None = None
    read: tuple[str | None, ...] = ()
    groups: dict[object, Group] = field(default_factory=dict, compare=False, repr=False)


class Given(NamedTuple):
    """The parameters of a split statement as the client gives them, in these formats, and the formats of its results.

    ``statement`` is the name of what was bound, as it was sent; ``source`` what the server was sent, where that is explained too;
    ``read`` is how its constants were read.
    """

    values: Sequence[bytes | None]
    formats: Sequence[int]
    result_formats: tuple[int, ...]
    statement: bytes = b""
    source: Bind | None = None
    read: tuple[str | None, ...] = ()


@dataclass(slots=True)
class Portal:
    """A portal or cursor: the plan bound, the result formats the client asked for (expanded; None where not needed), its group.

    ``oids`` are the statement's, ``binary`` the form in which protected columns come, ``holds`` says WITH HOLD, ``seen_by`` is the
    database as who opened it sees it (``session.current_access_and_expiry``). ``about`` is whom the client says it to be about.
    """

    plan: StatementPlan
    formats: tuple[int, ...] | None
    group: int
    oids: tuple[int, ...] = ()
    binary: bool = True
    holds: bool = False
    seen_by: object = None
    about: tuple[Noted, ...] = ()
    # The server has just said that it is there.
    found: bool = False
    # Of a split statement: what was given for it; what stands for its session of the engine while that is suspended; whether all
    # was shown. Of a FETCH from a cursor over one: whether the engine has begun with it.
    given: Given | None = None
    computation: object = None
    exhausted: bool = False
    begun: bool = False
    # The time zone under which rows of a split statement were read.
    zone: str = ""
    # Of a cursor over a split query: its plan; the cursor itself is the engine's.
    cursor: StatementPlan | None = None


class Names:
    """Statements and portals by name.

    ``changed`` holds the group that last changed a statement (S) or portal (P), while that may not be answered.
    """

    __slots__ = ("_groups", "changed", "portals", "statements")

    def __init__(self, groups: SyncGroups) -> None:
        self._groups = groups
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.changed: dict[tuple[str, bytes], int] = {}

    def prepare(self, name: bytes, prepared: Prepared) -> Undo:
        """Set a statement."""
        return self._set("S", self.statements, name, prepared)

    def bind(self, name: bytes, portal: Portal) -> Undo:
        """Set a portal."""
        return self._set("P", self.portals, name, portal)

    def forget_statement(self, name: bytes) -> Undo:
        """Drop a statement (Close, DEALLOCATE, a simple Query for the unnamed one)."""
        return self._set("S", self.statements, name, None)

    def forget_portal(self, name: bytes) -> Undo:
        """Drop a portal."""
        return self._set("P", self.portals, name, None)

    def _set(self, kind: str, names: dict[bytes, T], name: bytes, new: T | None) -> Undo:
        self.changed[kind, name] = self._groups.number
        undo = Undo(names, name, names.get(name), lost=kind == "S" and not name)
        if new is None:
            names.pop(name, None)
        else:
            names[name] = new
        return undo

    def may_be_undone(self, kind: str, name: bytes) -> bool:
        """Tell whether the last change of a statement (S) or portal (P) may yet be undone.

        It may when its group is not answered; in the group that is being sent it does not matter, since whatever undoes the change
        skips the rest of the group too.
        """
        groups = self._groups
        return groups.answered < self.changed.get((kind, name), groups.number) < groups.number

    def end_transaction(self, group: int) -> None:
        """Drop the portals bound in Sync groups up to ``group``: outside a transaction only WITH HOLD lives on (manual 55.2.3)."""
        if self.portals:
            for name in [n for n, p in self.portals.items() if p.group <= group and not p.holds]:
                del self.portals[name]
