"""What has happened, by person and column, counted from a log: the numbers of a report."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean, pstdev
from typing import Any, Final

from phiproxy.audit.break_glass_review import Glass, glasses
from phiproxy.audit.records import BREAK_GLASS, REVIEWED
from phiproxy.audit.search import Record, end_user

# A day is unusual above the mean of so many days before it, at least, by so many deviations, and by half as much again.
MIN_DAYS: Final = 5
DEVIATIONS: Final = 3


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


def person(record: Record) -> str:
    """Return who acted: the end user with the role behind which, or the role."""
    role = record.get("role") or record.get("login") or "?"
    user = end_user(record)
    return role if user is None else f"{user} ({role})"


def activity(records: Iterable[Record], since: str = "", before: str = "~") -> Activity:
    """Count the records of a period, whose bounds are spelled as records spell times; those before it say what is usual."""
    found = Activity()
    by_day: dict[str, Counter[str]] = defaultdict(Counter)
    columns_before: dict[str, set[str]] = defaultdict(set)
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
                _note_new(found, columns_before, record, who)
            columns_before[who].update((time[:10], *record.get("columns", ())))
        if within:
            found.records += 1
            _count_other(found, record)
    found.days = {(who, day): count for who, days in by_day.items() for day, count in days.items() if day >= since[:10]}
    found.unusual[:0] = _unusual_days(by_day, since[:10])  # first, since columns seen for the first time may be many
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


def _note_new(found: Activity, columns_before: dict[str, set[str]], record: Record, who: str) -> None:
    """Note that somebody who was there on another day before has touched a column for the first time."""
    past, day = columns_before.get(who), record["time"][:10]
    if not past or min(past) >= day:  # the days are among them
        return
    for column in record.get("columns", ()):
        if column not in past:
            found.unusual.append({"who": who, "day": day, "what": f"{column} for the first time"})


def _unusual_days(by_day: dict[str, Counter[str]], since: str) -> list[dict[str, Any]]:
    unusual = []
    for who, days in by_day.items():
        ordered = sorted(days)
        for i, day in enumerate(ordered):
            past = [days[each] for each in ordered[:i]]
            if day < since or len(past) < MIN_DAYS:
                continue
            usual = mean(past)
            if days[day] > max(usual + DEVIATIONS * pstdev(past), 1.5 * usual):
                unusual.append({"who": who, "day": day, "what": f"{days[day]} values opened; usual are {usual:.0f} a day"})
    return unusual
