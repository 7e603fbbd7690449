"""Who acts, and so what is seen of the database: the current role, the end user behind it, and whether a reason lifts masks.

The server says who acts (``substitutes_and_questions.PATH_QUESTION``), as it says what the search path is, and at the same
moments. Where it has not said, nothing protected is planned, bound or executed. Each set of roles that sees something else has a
``Database`` of its own with a planner and a generation of its own, so that no statement or plan is kept from one for another. What
clients say of it is ``end_user_and_break_glass``. A token whose time is over ends what its end user sees (``acting_until``).
"""

import math

from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.session.client_encoding import writable
from phiproxy.session.state import State
from phiproxy.session.state_parts import Acting, EndUser
from phiproxy.session.statements_and_portals import Portal
from phiproxy.session.substitutes_and_questions import FLUSH, own_query, waits_in_group
from phiproxy.wire.fields import Bind
from phiproxy.wire.messages import SYNC

NOBODY = EndUser("")
UNPROVEN = EndUser("", until=-math.inf)


_PORTAL = b"SELECT name FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.=) $1::pg_catalog.text"


class OtherRole(StatementRefused, sqlstate="42501", anchor="err-masked"):
    """A cursor or portal is read by a role that does not see what the one saw that has opened it (42501)."""

    def __init__(self) -> None:
        why = "this cursor was opened by a role that sees other columns, or under other rules"
        super().__init__(why, hint="Open it anew as this role.")


class PortalNeeded(Exception):
    """Before a portal or cursor is refused, the server is asked whether it is there: with ROLLBACK TO those declared behind go."""

    def __init__(self, name: bytes, portal: Portal) -> None:
        super().__init__("it must be known whether a portal is there")
        self.name = name
        self.portal = portal


def see(session: State) -> None:
    """See the database as who acts now does. ``acting_until`` is when that ends by itself."""
    base, path = session.base, session.search_path
    if base is None or base.access is None:
        session.database, session.acting_until, session.reason = base, math.inf, None
        return
    if path.schemas is None or path.role is None:
        return  # nothing protected is answered until the server has said who acts
    user = behind(session)
    given = path.reasons.get(path.reason)
    lifted = given is not None and given.until > session.now
    acting = Acting(path.role, user.roles, user.until <= session.now, lifted)
    limits = [user.until] if not acting.expired else []
    limits += [given.until] if given is not None and lifted else []
    session.acting_until = min(limits, default=math.inf)
    before = session.reason
    seen, session.reason = base.seen(acting), given.reason if given is not None and lifted and base.may_lift(acting) else None
    if before is not None and given is not None and not lifted:
        # What the server was sent before is still answered, and recorded with the reason.
        last = next((sent for sent in reversed(session.pipeline.queue) if sent.touches or sent.parts), None)
        session.ended_reason = (before, last) if last is not None else None
    if session.acting_until != math.inf:
        session.settled = False  # who acts is looked at again before anything is answered
    if seen is session.database:
        return
    session.database, session.settled = seen, False
    if session.catalog.overlay is not None:
        session.catalog.overlay = seen.overlay_of(session.catalog.overlay)
        session.catalog.overlays += 1


def behind(session: State) -> EndUser:
    """Return who acts behind the role. Where tokens say that, nothing is shown under a setting that none of this session gave."""
    path, base = session.search_path, session.base
    by_token = base is not None and base.access is not None and base.access.tokens
    return path.users.get(path.user, UNPROVEN if path.user and by_token else NOBODY)


def check_told(session: State, text: bytes) -> None:
    """Raise PathNeeded for a text that may name something protected, where it is not known who acts, and rules ask who that is."""
    if session.sure_path is None and session.base is not None and session.base.access is not None:
        planner = session.planner
        if planner.screen.mentions(text):
            raise PathNeeded(planner.place(text))


def check_portal(session: State, name: bytes, portal: Portal) -> None:
    """Refuse a portal or cursor that was opened by somebody who sees something else.

    PathNeeded where it is not known who acts, PortalNeeded where it is not known whether it is there.
    """
    if session.base is None or session.base.access is None:
        return
    if session.sure_path is None:
        raise PathNeeded
    if portal.seen_by is session.database:
        return
    if not portal.found:
        raise PortalNeeded(name, portal)
    portal.found = False
    raise OtherRole


def ask_portal_when_idle(session: State, needed: PortalNeeded) -> bool:
    """Ask whether a portal is there once nothing is in flight; False where that cannot be done."""
    idle = session.pipeline.front() is None
    if session.pipeline.skipping or (idle and session.status == b"E"):
        return False
    if not waits_in_group(session) and idle:
        in_group = session.groups.is_open
        given = Bind(b"", b"", (), [writable(session, needed.name)], ())
        question = own_query(_PORTAL, FLUSH if in_group else SYNC, given=given)
        session.internal(question, lambda ok, rows: _portal_told(session, needed, there=bool(rows) or not ok), in_group=in_group)
    return True


def _portal_told(session: State, needed: PortalNeeded, *, there: bool) -> None:
    session.blocked = False
    needed.portal.found = there
    if not there:
        session.names.forget_portal(needed.name)
