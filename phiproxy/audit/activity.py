"""What has happened, by person and column, counted from a log: the numbers of a report."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from phiproxy.audit.break_glass_review import Glass, glasses
from phiproxy.audit.records import BREAK_GLASS, REVIEWED
from phiproxy.audit.search import Record
from phiproxy.audit.unusual import Habits, person


@dataclass(slots=True)
class Read:
    """How often one person has opened, searched and stored values of one column."""

    executions: int = 0
    opened: int = 0
    masked: int = 0
    searched: int = 0
    stored: int = 0
    first: str = ""
    last: str = ""


@dataclass(slots=True)
class Activity:
    """The numbers of one period; ``reads`` are by (database, person, column), ``days`` the values opened by (person, day).

    ``subjects`` say of how many executions it is known whom they were about (``known``, ``many``, ``unknown``), by the column that
    says it. ``refusals`` are statements that the proxy has refused, ``failures`` those that have failed after they were begun, by
    (person, SQLSTATE, statement). ``broken_glass`` are the times that masks were lifted for a reason, each with its review.
    """

    records: int = 0
    executions: int = 0
    opened: int = 0
    reads: dict[tuple[str, str, str], Read] = field(default_factory=dict)
    refusals: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    logins: Counter[tuple[str, str]] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    key_events: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    lost: int = 0
    days: dict[tuple[str, str], int] = field(default_factory=dict)
    subjects: dict[str, Counter[str]] = field(default_factory=dict)
    unusual: list[dict[str, Any]] = field(default_factory=list)
    broken_glass: list[Glass] = field(default_factory=list)


def activity(records: Iterable[Record], since: str = "", before: str = "~") -> Activity:
    """Count the records of a period, whose bounds are spelled as records spell times; those before it say what is usual."""
    found = Activity()
    by_day: dict[str, Counter[str]] = defaultdict(Counter)
    habits = Habits()
    told: list[Record] = []
    for record in records:
        time = record["time"]
        if record["kind"] == REVIEWED or (record["kind"] == BREAK_GLASS and since <= time < before):
            told.append(record)  # a review counts whenever it was
        if time >= before:
            continue
        within = time >= since
        if record["kind"] == "execution":
            who = person(record)
            opened = sum(done.get("opened", 0) for done in record.get("columns", {}).values())
            by_day[who][time[:10]] += opened
            if within:
                _count_read(found, record, who)
            habits.seen(record, opened)
        if within:
            found.records += 1
            _count_other(found, record)
    found.days = {(who, day): count for who, days in by_day.items() for day, count in days.items() if day >= since[:10]}
    found.unusual += habits.unusual(since[:10])
    found.broken_glass += glasses(told)
    return found


def _count_read(found: Activity, record: Record, who: str) -> None:
    # Of a result that came bit by bit the last half has the numbers.
    begins = record.get("phase") == "begins"
    found.executions += not begins
    outcome = str(record.get("outcome"))
    if not begins and outcome != "00000":
        found.failures[who, outcome, record.get("statement", {}).get("text", "")] += 1
    for column, done in record.get("columns", {}).items():
        read = found.reads.setdefault((record.get("database", ""), who, column), Read(first=record["time"]))
        if not begins:
            read.executions += 1
            read.searched += done.get("searched") is True
            read.stored += done.get("stored") or 0
        read.opened += done.get("opened", 0)
        read.masked += done.get("masked", 0)
        read.last = max(read.last, record["time"])
        found.opened += done.get("opened", 0)
    for label, said in record.get("subjects", {}).items() if not begins else ():
        how = "unknown" if "unknown" in said else "many" if "rows" in said else "known"
        found.subjects.setdefault(label, Counter())[how] += 1
    for key, why in record.get("keys", {}).items():
        if why != "used":
            found.doubtful[f"{key} ({why})"] += 1


def _count_other(found: Activity, record: Record) -> None:
    kind = record["kind"]
    if kind == "refused":
        found.refusals[person(record), str(record.get("outcome")), record.get("statement", {}).get("text", "")] += 1
    elif kind == "login":
        found.logins[str(record.get("login")), str(record.get("outcome"))] += 1
    elif kind == "key":
        found.key_events.append({name: record.get(name) for name in ("at", "what", "subject", "from", "to", "login", "os_user")})
    elif kind in ("policy.loaded", "proxy.started"):
        found.policies.append({"time": record["time"], "kind": kind, "policies": record.get("policies", {})})
    elif kind == "log.gap":
        found.lost += record.get("lost", 0)
