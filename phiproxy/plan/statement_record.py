"""What a record says of a statement that touches something protected, whatever its values are."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

from phiproxy.sql.result import Answered, Subject
from phiproxy.sql.text.audit_text import LONG_TEXT, visible_shape
from phiproxy.sql.values.uses import Renew, Search, Store


class Shape(NamedTuple):
    """A statement without its constants, and the first 16 hexadecimal digits of the SHA-256 of that; both may be empty."""

    text: str
    fingerprint: str


def shape(text: str) -> Shape:
    """Return a visible shape with its fingerprint."""
    return Shape(text, sha256(text.encode()).hexdigest()[:16] if text else "")


@dataclass(slots=True, eq=False)
class Touched:
    """A statement that touches something protected; columns are ``schema.table.column``.

    ``searched`` are those that it compares, ``stored`` how many values it has for each, ``copied`` those that COPY FROM fills.
    ``subjects`` say how it is known whom its rows are about.
    """

    text: bytes = field(repr=False)
    searched: tuple[str, ...] = ()
    stored: tuple[tuple[str, int], ...] = ()
    copied: tuple[str, ...] = ()
    subjects: tuple[Subject, ...] = ()
    _shape: Shape | None = field(default=None, init=False, repr=False)

    @property
    def shape(self) -> Shape:
        """Its shape, found out when a record first needs it."""
        if self._shape is None:
            self._shape, self.text = shape(visible_shape(self.text)), b""
        return self._shape

    def said_of(self, statement: "Touched") -> "Touched":
        """Return the same, said of another statement, which it is a part of: what the client has sent."""
        said = replace(self, text=b"")
        said._shape = statement.shape  # noqa: SLF001 - the class's own
        return said


NOTHING = Touched(b"")


def touched_by(text: bytes, answer: Answered) -> Touched:
    """Return what a record says of one statement of a text; the answers to all texts of a shape share it."""
    touched = answer.shared.get("touched") if answer.touches else NOTHING
    if touched is None:
        uses = [occurrence.use for occurrence in answer.occurrences]
        searched = sorted({use.column.label for use in uses if isinstance(use, Search)})
        stored: dict[str, int] = {}
        for use in uses:
            if isinstance(use, Store | Renew):
                label = use.column.label
                stored[label] = stored.get(label, 0) + 1
        copy = answer.copy
        copied = tuple(r.column.label for r in copy.reveals if r is not None) if copy is not None and copy.incoming else ()
        end = min(answer.end, answer.start + LONG_TEXT + 1)
        touched = Touched(text[answer.start : end], tuple(searched), tuple(sorted(stored.items())), copied, answer.subjects)
        answer.shared["touched"] = touched
    assert isinstance(touched, Touched)
    return touched
