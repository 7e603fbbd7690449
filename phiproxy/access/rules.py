"""The rules of a policy, and what they come to for a set of roles: for each column that is not shown as it is, its mask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from phiproxy.access.shows import DENY, IN_PART, OPEN, Show

ColumnName = tuple[str, str, str]
"""(schema, table, column), decoded; of a field of a document the column with its path behind it: ``doc$.name.family``."""


@dataclass(frozen=True, slots=True)
class Masked:
    """What is shown of one column, and the name of the role under whose key its pseudonyms are made (empty: there are none).

    ``fields``: of a document of which only some fields are masked, these, by their paths.
    """

    show: Show
    keyed_by: str = ""
    fields: frozenset[tuple[str, Masked]] = frozenset()

    @property
    def in_part(self) -> bool:
        """Tell whether it is a document of which only some fields are masked."""
        return bool(self.fields)


def in_part(fields: Iterable[tuple[str, Masked]]) -> Masked | None:
    """Return what is shown of a document some of whose fields are masked; None where none is.

    It cannot be shown at all where one of them is denied.
    """
    masked = frozenset(fields)
    denied = any(own.show.denies for _, own in masked)
    return Masked(DENY if denied else IN_PART, fields=masked) if masked else None


Decision = frozenset[tuple[ColumnName, Masked]]
"""The columns that are not shown as they are; the same for sessions that see the same, so that they share plans."""

EVERYTHING: Decision = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """What members of some roles see of some columns. ``roles`` are names, in which ``%`` stands for any characters.

    ``columns`` are the columns and fields that it names, ``inside`` all columns that are in tables that it names.
    """

    roles: tuple[str, ...]
    columns: frozenset[ColumnName]
    inside: frozenset[ColumnName]
    show: Show

    def names(self, role: str) -> bool:
        """Tell whether it is for a role."""
        return any(matches(pattern, role) for pattern in self.roles)


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """Who may have masks lifted by giving a reason, and for how many seconds."""

    roles: tuple[str, ...]
    seconds: int

    def allows(self, own: Iterable[str]) -> bool:
        """Tell whether one of these roles may."""
        return any(matches(pattern, role) for pattern in self.roles for role in own)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """``access:`` of a policy. ``columns`` are all that are protected; ``default`` holds where no rule does.

    ``fields`` are all fields of documents, for which no default is: they are part of their document.
    ``domains`` are the groups of both whose stored values fit into each other's columns. They are shown alike: code in the server,
    which nobody here reads, may copy one into the other.
    """

    default: Show = OPEN
    rules: tuple[Rule, ...] = ()
    columns: frozenset[ColumnName] = frozenset()
    fields: frozenset[ColumnName] = frozenset()
    domains: tuple[frozenset[ColumnName], ...] = ()
    break_glass: BreakGlass | None = None
    tokens: bool = False
    """Whether the end user's roles come from a token that is verified."""
    _decisions: dict[tuple[str, ...], Decision] = field(default_factory=dict, compare=False, repr=False)

    def decide(self, own: Sequence[str]) -> Decision:
        """Return what these roles see of each column: what shows least of the rules for any of them.

        For one role, rules that name the column hold instead of those that name its table. Of the columns of one domain what
        shows least of any holds for all.
        """
        key = tuple(own)
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= _MAX_DECISIONS:
                self._decisions.clear()
            shown = {column: self.deciding(column, key)[0] for column in sorted(self.columns | self.fields)}
            for domain in self.domains:
                members = sorted(domain & shown.keys())
                strictest = min((shown[one] for one in members), key=lambda masked: masked.show.restriction)
                shown.update(dict.fromkeys(members, strictest))
            decision = self._decisions[key] = frozenset(
                (column, masked) for column, masked in shown.items() if not masked.show.shows_all
            )
        return decision

    @property
    def nothing(self) -> Decision:
        """What they see who may see nothing."""
        return frozenset((column, Masked(DENY)) for column in self.columns)

    def deciding(self, column: ColumnName, own: Sequence[str]) -> tuple[Masked, Rule | None, str]:
        """Return what is shown of a column that is in no domain, by which rule, and for which role; no rule: by default."""
        shown: tuple[Masked, Rule, str] | None = None
        for role in own:
            named = [rule for rule in self.rules if rule.names(role)]
            for rule in [r for r in named if column in r.columns] or [r for r in named if column in r.inside]:
                if shown is None or rule.show.restriction < shown[0].show.restriction:
                    shown = Masked(rule.show, role if rule.show.kind == "pseudonym" else ""), rule, role
        return shown if shown is not None else (Masked(OPEN if column in self.fields else self.default), None, "")


_MAX_DECISIONS = 1024


@lru_cache(maxsize=4096)
def matches(pattern: str, role: str) -> bool:
    """Tell whether a rule's name of roles names this one: ``app_%`` names ``app_web``."""
    if "%" not in pattern:
        return pattern == role
    return re.fullmatch(".*".join(map(re.escape, pattern.split("%"))), role, re.DOTALL) is not None


class Memberships:
    """Which roles are members of which, directly or through others (pg_auth_members); each is a member of itself."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = frozenset(pairs)
        self._groups: dict[str, list[str]] = {}
        for member, group in sorted(self.pairs):
            self._groups.setdefault(member, []).append(group)
        self._all: dict[str, tuple[str, ...]] = {}

    def of(self, role: str) -> tuple[str, ...]:
        """Return a role and all that it is a member of, the nearest first."""
        known = self._all.get(role)
        if known is None:
            reached = {role: None}
            queue = [role]
            for one in queue:
                for group in self._groups.get(one, ()):
                    if group not in reached:
                        reached[group] = None
                        queue.append(group)
            known = tuple(reached)
            if len(self._all) < _MAX_DECISIONS:
                self._all[role] = known
        return known
