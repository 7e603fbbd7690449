"""What clients say of who acts: the end user, by name or token, and the reason for which somebody is to see more (break-glass).

The server keeps a mark in the place of either (``effects``), and says which one holds. Who may give a reason is
``access.rules.BreakGlass``; that its time is over is seen in ``current_access_and_expiry``.
"""

from dataclasses import replace
from typing import TypeVar

from phiproxy.effects import TAKEN, Effects, is_true, must_be_set
from phiproxy.errors import InvalidEncoding, PathNeeded, StatementRefused
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.session import client_encoding
from phiproxy.session.current_access_and_expiry import behind
from phiproxy.session.state import State
from phiproxy.session.state_parts import Acting, EndUser, GivenReason
from phiproxy.session.trail import not_recorded
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import Bind

# Names and reasons of one session; of more the oldest are told by what the server keeps in their place.
MAX_SAID = 10_000
T = TypeVar("T")


class MayNotSay(StatementRefused, sqlstate="42501", anchor="err-masked"):
    """A reason is given by a role that may not see more for it (42501)."""


def check_said(session: State, effects: Effects) -> None:
    """Look at what a statement says of who acts, before it is sent: a token is verified, a reason may be given by some only.

    PathNeeded where it is not known who gives a reason, NotRecorded where that cannot be recorded, PhiproxyError for a bad token.
    """
    base = session.base
    if effects.end_user is not None and effects.end_user[1] and base is not None:
        mark, said = effects.end_user
        _note_user(session, mark, base.end_user(said, session.now) or EndUser(said), is_local=effects.is_local)
    if effects.reason is None or not effects.reason[1]:
        return
    if session.sure_path is None:
        raise PathNeeded
    user = behind(session)
    acting = Acting(session.role or "", user.roles, user.until <= session.now)
    if base is None or session.trail is None or not base.may_lift(acting):
        raise MayNotSay("this role may not see more for a reason", hint="The policy says who may: access.break_glass.")
    if session.trail.failing:
        raise not_recorded()


def bound(session: State, plan: StatementPlan, sent: Bind) -> tuple[StatementPlan, Bind]:
    """Take what a parameter says of who acts; return the plan with that, and the Bind with a mark in its place.

    StatementRefused for a parameter that names such a setting, and what ``check_said`` raises.
    """
    values = [*sent.values]
    for number in plan.effects.named_by:
        name = (values[number - 1] or b"").decode("utf-8", "replace").lower() if number <= len(values) else ""
        if name in TAKEN:
            why, hint = must_be_set(name)
            raise StatementRefused(why, hint=hint)
    setting, number = plan.effects.given or ("", 0)
    given = values[number - 1] if 0 < number <= len(values) else None
    if given is None:
        return plan, sent  # NULL resets it
    client_encoding.check(session, touches=True)
    try:
        said = (session.text.encoding or UTF8).to_utf8(given).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidEncoding('invalid byte sequence for encoding "UTF8"') from None
    effects = replace(plan.effects)
    local = values[effects.local_by - 1] if 0 < effects.local_by <= len(values) else None
    effects.is_local |= local == b"\1" or is_true((local or b"").decode("ascii", "replace"))
    mark = effects.say(setting, said)
    check_said(session, effects)
    if mark is not None:
        values[number - 1] = mark.encode()
    return replace(plan, effects=effects), sent._replace(values=values)


def take_said(session: State, effects: Effects) -> None:
    """Note what a statement says of who acts, when it is sent; that a reason is given is recorded before anybody is told of it."""
    path = session.search_path
    if effects.end_user is not None and effects.end_user[0] not in path.users:
        _note_user(session, effects.end_user[0], EndUser(effects.end_user[1]), is_local=effects.is_local)
    if effects.reason is None or not effects.reason[1]:
        return
    mark, reason = effects.reason
    glass = session.base.access.break_glass if session.base is not None and session.base.access is not None else None
    if glass is None or session.trail is None:
        return
    _note(path.reasons, mark, GivenReason(reason, session.now + glass.seconds), path.reason)
    session.unrecorded = session.trail.alerted(reason, glass.seconds, session.role, session.user)


def _note_user(session: State, mark: str, user: EndUser, *, is_local: bool) -> None:
    path = session.search_path
    if not is_local:
        path.local.discard(mark)
    elif mark not in path.users:
        path.local.add(mark)
    _note(path.users, mark, user, path.user)


def _note(said: dict[str, T], mark: str, what: T, current: str) -> None:
    """Keep what stands for a mark; of too many only the current one."""
    if len(said) >= MAX_SAID:
        kept = {current: said[current]} if current in said else {}
        said.clear()
        said.update(kept)
    said[mark] = what
