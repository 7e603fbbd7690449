"""Whom an execution is about, collected for its record: each of a few, or how many there were."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.sql.result import Subject


class Whom(NamedTuple):
    """What a record says of one subject column: the ``values``, or, where these are too many, in how many ``rows`` there was one.

    ``unknown``: the rows of one relation with this column may be about others, or all of them are.
    """

    label: str
    values: tuple[bytes, ...] = ()
    rows: int = 0
    unknown: bool = False


@dataclass(slots=True)
class Collected:
    """The subjects of one execution, by their numbers: different values, at most one more than ``limit``, and how many in all.

    ``unspelled`` are those of which there was a value that is not understood.
    """

    limit: int
    values: dict[int, dict[bytes, None]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    unspelled: set[int] = field(default_factory=set)

    def add(self, noted: Iterable[Noted]) -> None:
        """Take more of them."""
        for number, value in noted:
            if value is None:
                self.unspelled.add(number)
                continue
            own = self.values.setdefault(number, {})
            self.counts[number] = self.counts.get(number, 0) + 1
            if len(own) <= self.limit:
                own[value] = None


def whom(subjects: Sequence[Subject], collected: Collected) -> tuple[Whom, ...]:
    """Return what a record says, a subject column at a time; nothing of one whose rows are known and none has come."""
    labels: dict[str, Whom] = {}
    for number, subject in enumerate(subjects):
        label, said = subject.label, labels.get(subject.label, Whom(subject.label))
        values = tuple(dict.fromkeys((*said.values, *collected.values.get(number, ()))))
        rows = said.rows + collected.counts.get(number, 0)
        # A value that was given and is none is of no row; then nothing says whom the rows are about.
        unknown = number in collected.unspelled or (subject.output < 0 and number not in collected.values)
        labels[label] = Whom(label, values, rows, said.unknown or unknown)
    return tuple(
        each._replace(values=()) if len(each.values) > collected.limit else each._replace(rows=0)
        for each in labels.values()
        if each.values or each.unknown
    )
