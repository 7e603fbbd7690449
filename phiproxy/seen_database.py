"""A database as those see it who do not see everything: with a planner of their own, whose plans are never another's."""

from collections.abc import Mapping

from phiproxy.access.rules import AccessRules, Decision
from phiproxy.plan.planner import Planner
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.session.state import Database, Observer
from phiproxy.session.state_parts import Acting, EndUser, Fence, Opening

# A tenant's generation is below; a session counts above (``statement_effects.stamp_of``).
_SHIFT = 32


class SeenDatabase:
    """What sessions are told of a database for which a decision holds; ``number`` is above 0, and another for each decision."""

    def __init__(self, whole: Database, decision: Decision, number: int) -> None:
        self._whole = whole
        self.decision = decision
        self._number = number << _SHIFT

    @property
    def planner(self) -> Planner:
        """The planner of now, for those who see this."""
        return self._whole.planner.as_seen(self.decision)

    @property
    def generation(self) -> int:
        """A number that changes with the planner, and that no other view of the database has."""
        return self._whole.generation + self._number

    @property
    def access(self) -> AccessRules | None:
        """Who sees what."""
        return self._whole.access

    def seen(self, acting: Acting) -> Database:
        """Return the database as who acts sees it."""
        return self._whole.seen(acting)

    def may_lift(self, acting: Acting) -> bool:
        """Tell whether who acts may have masks lifted by a reason."""
        return self._whole.may_lift(acting)

    def end_user(self, said: str, now: float) -> EndUser | None:
        """Return whom a token is of; None where names are taken as they are."""
        return self._whole.end_user(said, now)

    def overlay_of(self, planner: Planner) -> Planner:
        """Return the planner of a transaction for those who see this."""
        return planner.as_seen(self.decision)

    @property
    def unread_names(self) -> set[str]:
        """Names that the planner does not know yet."""
        return self._whole.unread_names

    @property
    def announced_names(self) -> set[str]:
        """Names that DDL is about to make."""
        return self._whole.announced_names

    @property
    def fence(self) -> Fence:
        """Until when names may be relied on."""
        return self._whole.fence

    @property
    def observer(self) -> Observer | None:
        """Who observes statements."""
        return self._whole.observer

    @property
    def opened(self) -> list[Opening | Noted]:
        """The openings of values that nobody has asked about yet."""
        return self._whole.opened

    def audit(self, opened: Mapping[Opening, int]) -> None:
        """Tell what was opened under doubtful keys."""
        self._whole.audit(opened)

    def announce(self) -> None:
        """Let every proxy look at the catalogue now."""
        self._whole.announce()

    def schemas_changed(self) -> None:
        """Let every session ask for its search path again."""
        self._whole.schemas_changed()
