"""What is protected in one database, at run time: the policy joined with the registry's numbers and the live catalogue.

Made by ``phiproxy.policy.bind``; everything above (sql, plan, session) reads only this and the catalogue snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from phiproxy.errors import NotAuthentic
from phiproxy.index.characters import ASCII, Characters
from phiproxy.policy.names import shown_expression, split_identifiers
from phiproxy.types.declared import DeclaredType

__all__ = ["DeclaredType", "ProtectedColumn", "ProtectedTable", "Protection", "Slot", "SlotState"]

SlotState = Literal["building", "ready", "active", "dropped"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One tag slot of an identity (crypto.md section 6). ``number`` is its place in the envelope, from 0.

    ``total``: its expression is NULL for no value.
    """

    number: int
    expression: str
    generation: int
    state: SlotState
    normaliser: int = 1
    total: bool = True
    family: str = ""


def answering_slots(slots: Iterable[Slot], expressions: Iterable[str]) -> dict[str, Slot]:
    """Return the slot of each expression that has one: that which answers, else the one that is on its way."""
    found: dict[str, Slot] = {}
    for slot in slots:
        if slot.state == "active" or (slot.state != "dropped" and slot.expression not in found):
            found[slot.expression] = slot
    return {expression: found[expression] for expression in expressions if expression in found}


def waiting_slots(slots: Iterable[Slot], expressions: Iterable[str]) -> list[Slot]:
    """Return the slots of expressions that no slot answers yet: values that were stored before them have no tag in them."""
    return [slot for slot in answering_slots(slots, expressions).values() if slot.state != "active"]


@dataclass(frozen=True, slots=True)
class Check:
    """A part of a CHECK constraint that the proxy evaluates: ``definition`` is the envelope of its condition (policy.guards).

    ``validated``: the values that are there satisfy it too.
    """

    name: str
    definition: bytes
    validated: bool = True


@dataclass(frozen=True, slots=True)
class ProtectedColumn:
    """One protected column of one table. Columns of one domain share identity, number, scope and slots.

    ``checks`` and ``default``, the envelope of a constant, are what the server's catalogue says of the column.

    Or what ``expression`` makes of the column ``base``: as a column of an identity of its own, so that it is never taken for it,
    whose one slot is the one that the registry has for that expression. ``shown_of``: a cast of that column, which depends on the
    session's settings or has no index for another reason; it is done where the value is shown.

    ``distrusted``: what the registry says of it does not verify, so its values are neither stored, searched nor opened.
    """

    schema: str
    table: str
    name: str
    identity: str
    number: int
    scope: str
    type: DeclaredType
    pad: int | None
    slots: tuple[Slot, ...]
    deployment: str
    tenant: str = ""
    checks: tuple[Check, ...] = ()
    default: bytes | None = None
    base: ProtectedColumn | None = None
    expression: str = "@"
    shown_of: ProtectedColumn | None = None
    characters: Characters = ASCII
    distrusted: bool = False

    def characters_of(self, slot: Slot) -> Characters:
        """Return what upper and lower case mean to a slot: in another family's database than its own only ASCII's are the same."""
        return self.characters if slot.family in ("", self.characters.family) else ASCII

    def __hash__(self) -> int:
        # Ciphers are found by column for every value, and a hash of all of this takes longer than most of what is done then.
        return hash((self.number, self.name))

    def refuse_distrusted(self) -> None:
        """Raise NotAuthentic for a column that somebody has changed in the key registry past phiproxy."""
        if self.distrusted:
            text = f"what the key registry says of {self.label} is not authentic"
            raise NotAuthentic(text, hint="The operator finds the row with: phiproxy check")

    @property
    def label(self) -> str:
        """``schema.table.column`` for messages."""
        return shown_expression(self.expression, f"{self.schema}.{self.table}.{self.name}")

    def derived(self, expression: str, type_: DeclaredType) -> ProtectedColumn:
        """Return what an expression, in phiproxy's own spelling, makes of this column."""
        slots = tuple(replace(s, expression="@") for s in self.slots if s.expression == expression)
        identity = f"{self.identity}\0{expression}"
        return replace(self, identity=identity, type=type_, slots=slots, base=self, expression=expression)

    def cast_to(self, type_: DeclaredType) -> ProtectedColumn:
        """Return what a cast makes of this column where it is shown."""
        root, expression = self.base or self, f"{self.expression}::{type_.name}"
        return replace(root.derived(expression, type_), slots=(), shown_of=self)

    @property
    def unbounded(self) -> ProtectedColumn:
        """The column as it seals a value that only one statement sees: no length applies, and no constraint."""
        text = self.type.family in ("text", "varchar")
        type_ = DeclaredType("text", 25) if text else self.type.underlying.unlimited
        return replace(self, type=type_, checks=())

    @property
    def bare(self) -> ProtectedColumn:
        """The column without what the catalogue says of values that are still to be stored."""
        return replace(self, checks=(), default=None) if self.checks or self.default is not None else self

    def slot_for(self, expression: str) -> Slot | None:
        """Return the active slot of this expression (phiproxy's own spelling: ``@`` is the column), or None.

        Raises NotAuthentic for a column that is ``distrusted``.
        """
        self.refuse_distrusted()
        return next((s for s in self.slots if s.expression == expression and s.state == "active"), None)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why every statement is refused that would read or write a table, and what the operator can do about it."""

    why: str
    hint: str


@dataclass(frozen=True)
class ProtectedTable:
    """A table with at least one protected column, by name; ``inherited`` are those that only a parent of it names in the policy.

    ``refused``: what is in it is not understood, or may not be in clear; then it may have no ``columns`` that are known.
    """

    schema: str
    name: str
    columns: Mapping[str, ProtectedColumn]
    inherited: frozenset[str] = frozenset()
    refused: Refusal | None = None


Place = tuple[str, str, str]
"""(schema, table, column), decoded."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where protection ends, beyond the columns of the policy (``policy.boundary``).

    ``registered`` are the columns that the registry knows, ``released`` those that the policy lets go, and ``clear`` the (schema,
    table) that it says to be in clear though they are named like protected ones.
    """

    registered: frozenset[Place] = frozenset()
    released: frozenset[Place] = frozenset()
    clear: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Protection:
    """All protected tables of one database. ``generation`` changes with policy or registry, and is part of every plan key."""

    generation: int
    database: str
    deployment: str
    registry_schema: str
    tables: tuple[ProtectedTable, ...]
    fixed: frozenset[str] = frozenset()
    """Settings that decide the session's tenant, in lower case: they may not change after the session has started."""
    characters: Characters = ASCII
    boundary: Boundary = Boundary()

    def of_tenant(self, tenant: str) -> Protection:
        """Return the same for the sessions of one tenant."""
        if not tenant:
            return self
        tables = tuple(replace(t, columns={name: replace(c, tenant=tenant) for name, c in t.columns.items()}) for t in self.tables)
        return replace(self, tables=tables)

    def may_move(self, place: tuple[str, str], columns: Iterable[str], to: tuple[str, str]) -> bool:
        """Tell whether these columns of a table are protected alike under both of its names: then no moment is one too early."""
        before, after = self._numbers(place), self._numbers(to)
        return all(before.get(column) == after.get(column) for column in columns)

    def _numbers(self, place: tuple[str, str]) -> dict[str, int]:
        table = self.by_name.get(place)
        return {} if table is None else {column.name: column.number for column in table.columns.values()}

    @cached_property
    def by_name(self) -> dict[tuple[str, str], ProtectedTable]:
        """Protected tables by (schema, name)."""
        return {(t.schema, t.name): t for t in self.tables}

    @cached_property
    def table_names(self) -> frozenset[str]:
        """Last identifiers of the protected tables."""
        return frozenset(t.name for t in self.tables)

    @cached_property
    def type_names(self) -> frozenset[str]:
        """Names of the database's own types that protected columns have, without their schemas."""
        types = ((c.type.element or c.type) for t in self.tables for c in t.columns.values())
        return frozenset(split_identifiers(type_.name)[-1] for type_ in types if type_.schema or not type_.known)

    @cached_property
    def column_names(self) -> frozenset[str]:
        """Names of the protected columns."""
        return frozenset(c for t in self.tables for c in t.columns)
