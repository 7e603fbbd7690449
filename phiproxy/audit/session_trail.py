"""One session's records. What is the same in all of them is spelled once; the rest is put in between, with the keys in order.

    {"application":"psql","client":"10.0.0.7:53412","columns":{"public.patients.ssn":{"opened":3,"searched":true}},
     "database":"clinic","execution":null,"keys":{"5fc3a911":"used"},"kind":"execution","login":"app","outcome":"00000", …

This is done for every statement that touches something protected, between its rows and whoever waits for them.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from phiproxy.audit.group_commit import AuditLog
from phiproxy.audit.records import BREAK_GLASS, VERSION, canonical, now
from phiproxy.audit.sealed_subjects import SubjectSeals
from phiproxy.errors import PhiproxyError, state_of
from phiproxy.plan.counted_subjects import Whom
from phiproxy.plan.statement_record import Shape, Touched
from phiproxy.session.state_parts import EndUser, Opening
from phiproxy.session.trail import PURPOSE, Execution, Phase, rows_of

OK: Final = "00000"
Done = tuple[bytes, bytes, bytes]
"""The columns, the keys and the statement of an execution, spelled."""
Shown = tuple[bytes, bytes, bytes]
"""A record of a session's, spelled but for number, time and subjects: what is before the number, before the time, and behind it."""
# Statements, each with how many values of which column it has opened under which key, that are spelled once.
_MAX_SPELLED = 2048
# Records that are spelled once of one session, of some 800 bytes each.
_MAX_OF_SESSION = 8


@dataclass(frozen=True, slots=True)
class Who:
    """Whose session it is: where it comes from, and as whom it has logged in to which database."""

    number: str
    database: str
    tenant: str
    login: str
    client: str


class SessionTrail:
    """A session's part of the audit log (``session.trail.Trail``). ``spelled`` is shared by all sessions of a process."""

    def __init__(
        self, log: AuditLog, who: Who, facts: Mapping[str, str], spelled: dict[object, Done], subjects: SubjectSeals
    ) -> None:
        self._log, self._who, self._seals = log, who, subjects
        self._facts = dict(facts)
        self._application = self._authorized = self._purpose = ""
        self._shared = spelled
        self._spelled: dict[tuple[object, ...], Shown] = {}
        self.when_durable = log.when_durable
        self._spell()

    def _spell(self) -> None:
        who, facts = self._who, self._facts
        login = _spelled(self._authorized or who.login)
        self._lead = b'{"application":%b,"client":%b,"columns":' % (_spelled(self._application), _spelled(who.client))
        self._database = b',"database":%b,"execution":' % _spelled(who.database)
        self._login = b',"kind":"execution","login":%b,' % login
        purpose = b',"purpose":%b' % _spelled(self._purpose) if self._purpose else b""
        self._proxy = b',"proxy":%b%b,"role":' % (_spelled(facts["proxy"]), purpose)
        self._ok = self._login + _spelled_end(OK, Phase.WHOLE)
        self._session = b',"session":%b' % _spelled(who.number)
        self._tenant = b',"tenant":%b,"time":"' % _spelled(who.tenant)
        self._tail = b'","v":%d,"writer":%b}' % (VERSION, _spelled(facts["writer"]))
        self._spelled.clear()

    @property
    def subjects(self) -> int:
        """How many subjects of one execution are recorded one by one."""
        return self._seals.limit

    @property
    def failing(self) -> bool:
        """Tell whether what is protected must be refused now, since nothing takes records."""
        return self._log.failing

    def next_number(self) -> int:
        """Return a number for an execution whose record comes in two halves."""
        self._log.executions += 1
        return self._log.executions

    def executed(self, execution: Execution) -> int:
        """Record an execution, or a half of it; returns its ticket."""
        rows, number, split = execution.rows, execution.number, execution.split
        columns, keys, shape = _done(execution)
        before = (
            self._lead, columns, self._database, b"%d" % number if number else b"null", keys, self._login,
            _spelled_end(execution.outcome, execution.phase), self._proxy_of(execution.reason), _spelled(execution.role),
            b',"rows":', b"null" if rows is None else b"%d" % rows, b',"sequence":',
        )  # fmt: skip
        computed = b',"split":%d' % split if split else b""
        tail = self._tail_of(execution.user)
        about = self._seals.spelled(execution.about) if execution.about else b""
        behind = (self._session, computed, shape, about, self._tenant, now(), tail)
        return self._log.submit((b"".join(before), b"".join(behind)))

    def shown(
        self,
        touched: Touched,
        opened: tuple[Opening, ...],
        tag: bytes,
        role: str | None,
        user: EndUser | None,
        about: tuple[Whom, ...] = (),
    ) -> int:
        """Record a whole execution that went well, as ``executed`` does; ``opened`` one by one.

        But for its number, its time and whom it is about, a record of the same execution once more is spelled already.
        """
        same = touched, opened, tag, role, user
        before, behind, tail = self._spelled.get(same) or self._spell_shown(*same)
        if about:
            behind = b"".join((behind[: -len(self._tenant)], self._seals.spelled(about), self._tenant))
        return self._log.submit((before, behind, now(), tail))

    def _spell_shown(
        self, touched: Touched, opened: tuple[Opening, ...], tag: bytes, role: str | None, user: EndUser | None
    ) -> Shown:
        rows = rows_of(tag)
        done = self._shared.get((touched, opened))
        if done is None or touched.copied:
            done = _done(Execution(touched, Counter(opened), OK, rows))
            if len(self._shared) >= _MAX_SPELLED:
                self._shared.clear()
            self._shared[touched, opened] = done
        columns, keys, shape = done
        before = (
            self._lead, columns, self._database, b"null", keys, self._ok, self._proxy, _spelled(role),
            b',"rows":', b"null" if rows is None else b"%d" % rows, b',"sequence":',
        )  # fmt: skip
        spelled = b"".join(before), b"".join((self._session, shape, self._tenant)), self._tail_of(user)
        if len(self._spelled) >= _MAX_OF_SESSION:
            self._spelled.clear()
        self._spelled[touched, opened, tag, role, user] = spelled
        return spelled

    def _tail_of(self, user: EndUser | None) -> bytes:
        return self._tail if user is None else b'","user":%b%b' % (canonical(known_as(user)), self._tail[1:])

    def _proxy_of(self, reason: str | None) -> bytes:
        """Return what stands before the role: the proxy, and the reason that was given."""
        return self._proxy if reason is None else self._proxy.replace(b',"role":', b',"reason":%b,"role":' % canonical(reason))

    def refused(
        self, shape: Shape, error: PhiproxyError, role: str | None, user: EndUser | None, denied: tuple[str, ...] = ()
    ) -> int:
        """Record that a statement was refused; returns the ticket. ``denied`` are the columns that its role may not see."""
        said: dict[str, object] = {
            "columns": {label: {"denied": True} for label in denied}, "outcome": state_of(error), "role": role,
            "statement": shape._asdict(), "why": type(error).__name__,
        }  # fmt: skip
        if user is not None:
            said["user"] = known_as(user)
        return self._log.event("refused", {**self._common(), **said})

    def alerted(self, reason: str, seconds: int, role: str | None, user: EndUser | None) -> int:
        """Record that masks are lifted, under an identifier by which somebody signs it off."""
        said: dict[str, object] = {"glass": os.urandom(6).hex(), "reason": reason, "role": role, "seconds": seconds}
        if user is not None:
            said["user"] = known_as(user)
        return self._log.event(BREAK_GLASS, {**self._common(), **said})

    def logged_in(self, outcome: str) -> None:
        """Record how the login of this session ended: a SQLSTATE."""
        self._log.event("login", {**self._common(), "outcome": outcome})

    def told(self, name: str, value: str) -> None:
        """Take note of a setting of which the server has told."""
        if name == "application_name":
            self._application = value
        elif name == PURPOSE:
            self._purpose = value
        else:
            self._authorized = value
        self._spell()

    def _common(self) -> dict[str, object]:
        who = self._who
        said = {"purpose": self._purpose} if self._purpose else {}
        return {
            "application": self._application, "client": who.client, "database": who.database,
            "login": self._authorized or who.login, "session": who.number, "tenant": who.tenant, **said,
        }  # fmt: skip


def _columns(execution: Execution) -> Mapping[str, Mapping[str, object]]:
    """Return what was done with which column."""
    touched = execution.touched
    opened: dict[tuple[str, str], int] = {}
    for opening, count in execution.opened.items():
        of_column = opening.column, "masked" if opening.masked else "opened"
        opened[of_column] = opened.get(of_column, 0) + count
    done: list[tuple[str, str, object]] = [
        *((label, what, count) for (label, what), count in opened.items()),
        *((label, "searched", True) for label in touched.searched),
        *((label, "stored", count) for label, count in touched.stored),
        *((label, "stored", execution.rows) for label in touched.copied),
    ]
    columns: dict[str, dict[str, object]] = {}
    for label, what, value in done:
        columns.setdefault(label, {})[what] = value
    return columns


def known_as(user: EndUser) -> dict[str, str]:
    """Return what is recorded of an end user: the name, and how that is known."""
    return {"how": user.how, "name": user.name}


def _done(execution: Execution) -> Done:
    """Spell the columns, the keys and the statement of an execution."""
    columns, keys = canonical(_columns(execution)), {f"{o.data_key:08x}": o.doubt or "used" for o in execution.opened if o.data_key}
    return columns, b',"keys":' + canonical(keys), b',"statement":' + canonical(execution.touched.shape._asdict())


@lru_cache(maxsize=1024)
def _spelled(text: str | None) -> bytes:
    return canonical(text)


@lru_cache(maxsize=256)
def _spelled_end(outcome: str | None, phase: Phase) -> bytes:
    return b'"outcome":%b,"phase":%b' % (canonical(outcome), canonical(phase.value))
