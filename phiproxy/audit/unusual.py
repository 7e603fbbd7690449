"""What is unusual of somebody's access: against his own past, never against what others do.

That is a role, whoever is behind it, and each end user behind one, in one database. Days and hours are those of UTC.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Final

from phiproxy.audit.search import Record, end_user

# A day is unusual above the mean of so many days before it, at least, by so many deviations, and by half as much again; an hour
# above the most that there was in one before, by half as much again.
MIN_DAYS: Final = 5
DEVIATIONS: Final = 3
MORE: Final = 1.5


def person(record: Record) -> str:
    """Return who acted: the end user with the role behind which, or the role."""
    user = end_user(record)
    return _role(record) if user is None else f"{user} ({_role(record)})"


def _role(record: Record) -> str:
    return record.get("role") or record.get("login") or "?"


@dataclass(slots=True)
class _Own:
    """What one has done: values opened and executions by hour (``2026-11-27T18``), and the day of each column's first time."""

    opened: Counter[str] = field(default_factory=Counter)
    executions: Counter[str] = field(default_factory=Counter)
    columns: dict[str, str] = field(default_factory=dict)


class Habits:
    """What everybody does, record by record, in any order."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], _Own] = defaultdict(_Own)
        self._days: set[str] = set()

    def seen(self, record: Record, opened: int) -> None:
        """Take note of an execution, which has opened so many values."""
        hour, database = record["time"][:13], record.get("database", "")
        self._days.add(hour[:10])
        for who in {person(record), _role(record)}:
            own = self._of[database, who]
            own.opened[hour] += opened
            # Of a result that came bit by bit the last half counts.
            own.executions[hour] += record.get("phase") != "begins"
            for column in record.get("columns", ()):
                own.columns[column] = min(own.columns.get(column, hour[:10]), hour[:10])

    def unusual(self, since: str) -> list[dict[str, Any]]:
        """Return what was unusual from a day on, day by day: what was much first, then what was there for the first time."""
        found, days = list[tuple[bool, str, str, str, str]](), sorted(self._days)
        for (database, who), own in self._of.items():
            by_day = _by_day(own.executions)
            first = next(iter(by_day))
            told = [(False, day, what) for day, what in _much(own, by_day)]
            if days.index(first) >= MIN_DAYS:
                told.append((False, first, f"seen for the first time: {_total(own.opened, first)} values opened"))
            told += [(True, day, f"{column} for the first time") for column, day in own.columns.items() if day > first]
            found += [(new, day, database, who, what) for new, day, what in told if day >= since]
        return [{"day": day, "database": db, "who": who, "what": what} for _, day, db, who, what in sorted(found)]


def _by_day(by_hour: Counter[str]) -> dict[str, list[str]]:
    """Return the hours of each day in which something was done, in order."""
    days = dict[str, list[str]]()
    for hour in sorted(by_hour):
        days.setdefault(hour[:10], []).append(hour)
    return days


def _total(by_hour: Counter[str], day: str) -> int:
    return sum(count for hour, count in by_hour.items() if hour[:10] == day)


def _much(own: _Own, by_day: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield days, and what was much in them, or done at a time of day at which nothing ever was."""
    opened, executions = _Usual(), _Usual()
    times, most = set[int](), 0
    for number, (day, hours) in enumerate(by_day.items()):
        values, times_done = (sum(counted[hour] for hour in hours) for counted in (own.opened, own.executions))
        if number >= MIN_DAYS:
            peak = max(hours, key=lambda hour: own.opened[hour])
            if opened.is_exceeded(values):
                yield day, f"{values} values opened; usual are {opened.mean:.0f} a day"
            elif executions.is_exceeded(times_done):
                yield day, f"{times_done} executions; usual are {executions.mean:.0f} a day"
            elif own.opened[peak] > MORE * most:
                yield day, f"{own.opened[peak]} values opened from {peak[11:]}:00 UTC on in an hour; at most {most} before"
            new = [hour for hour in hours if times.isdisjoint(_around(int(hour[11:])))]
            if new:
                at = ", ".join(f"{hour[11:]}:00" for hour in new)
                yield day, f"at {at} UTC, never before at that time of day: {sum(own.opened[hour] for hour in new)} values opened"
        opened.add(values)
        executions.add(times_done)
        most = max(most, *(own.opened[hour] for hour in hours))
        times.update(int(hour[11:]) for hour in hours)


def _around(hour: int) -> Iterable[int]:
    return (hour - 1) % 24, hour, (hour + 1) % 24


@dataclass(slots=True)
class _Usual:
    """The mean of what there was each day, and how far from it days are."""

    days: int = 0
    total: int = 0
    squares: int = 0

    @property
    def mean(self) -> float:
        return self.total / self.days

    def is_exceeded(self, count: int) -> bool:
        deviation = sqrt(self.days * self.squares - self.total**2) / self.days
        return count > max(self.mean + DEVIATIONS * deviation, MORE * self.mean)

    def add(self, count: int) -> None:
        self.days += 1
        self.total += count
        self.squares += count**2
