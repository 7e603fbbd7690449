"""What was understood of one text, for all texts of its shape: the analysis is paid once, whatever the literals are.

A template holds gaps and decisions, never the value of a protected literal. It is made only where every constant of the text is
one of three things: a whole protected occurrence, free, or *fixed*, which means that the template is only for texts with this very
constant in this place. Everything else has no template and is analysed in full each time.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from phiproxy.errors import ValueRefused
from phiproxy.plan.ready import Ready
from phiproxy.sql.formula import Formula
from phiproxy.sql.meaning import Edit, Effects, Meaning, Occurrence, Renew, Search, Store, of_elements
from phiproxy.sql.parse import Statement
from phiproxy.sql.shape import Shape, free_constants, literal_value, numbers_of_gaps, quoted_names, shape_of
from phiproxy.sql.taint import ProtectedValues, elements_of

# About 4 KiB each, as plans. Texts whose fixed constants differ each time would otherwise fill a shape without end.
MAX_SHAPES = 2048
MAX_TEMPLATES_PER_SHAPE = 8


@dataclass(frozen=True, slots=True)
class _Place:
    """An edit or occurrence: ``constant`` is its number, or ``gap`` and the offsets in it say where it stands.

    An expression of ``constants``, and an edit that takes some away, reach from there to ``end`` in the gap ``last``.
    """

    change: Edit | Occurrence
    constant: int = -1
    gap: int = -1
    start: int = 0
    end: int = 0
    last: int = -1
    constants: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """The meanings of a shape: per statement its prototype and the places of its edits and occurrences.

    ``names`` are the names and numbers that all its texts have, and a protected constant may not repeat.
    """

    prototypes: tuple[tuple[Meaning, tuple[_Place, ...]], ...]
    fixed: tuple[tuple[int, bytes], ...]
    protected: frozenset[int]
    names: frozenset[bytes] = frozenset()
    # Where that is how many constants there are, each is protected by itself, and nothing else can repeat one.
    alone: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alone", -1 if self.names or any(self.expressions) else len(self.protected))

    def meanings(self, shape: Shape) -> list[Meaning] | None:
        """Return the meanings of another text of the shape, or None where this template does not speak of it."""
        try:
            return [_placed(prototype, places, shape) for prototype, places in self.prototypes] if self.speaks_of(shape) else None
        except ValueRefused:
            return None  # the analysis says where

    def speaks_of(self, shape: Shape) -> bool:
        """Tell whether what was decided of its own text is right for another text of the shape; ValueRefused."""
        constants = shape.constants
        for i, spelled in self.fixed:
            if constants[i] != spelled:
                return False
        return self._apart(constants)

    def _apart(self, constants: Sequence[bytes]) -> bool:
        """Tell whether no unprotected constant or name repeats a protected one: that would be a use of it (sql.md section 2)."""
        if self.alone == len(constants):
            return True
        protected = [literal_value(constants[i]) for i in self.protected]
        protected += [_computed(change, own, constants)[1] for change, own in self.expressions]
        protected += [element for value in protected for element in elements_of(value)]
        values = ProtectedValues(((value, None) for value in protected), _one_row)
        if any(values.repeated_by(name, None) for name in self.names):
            return False
        return not any(values.repeated_by_constant(c, None) for i, c in enumerate(constants) if i not in self.protected)

    @property
    def expressions(self) -> Iterator[tuple[Occurrence, tuple[int, ...]]]:
        """The occurrences that are expressions of constants, with the numbers of these."""
        for _, places in self.prototypes:
            for place in places:
                if place.constants and isinstance(place.change, Occurrence):
                    yield place.change, place.constants


def _one_row(_: int | None) -> None:
    """Take all constants for those of one row: where a number is repeated in another, the text is analysed."""


def _computed(change: Occurrence, own: Sequence[int], constants: Sequence[bytes]) -> tuple[Formula, bytes]:
    """Return an expression of these constants, and its value. ValueRefused, also for NULL, which stands for something else."""
    assert change.computed is not None
    computed = change.computed.of_constants(literal_value(constants[i]) for i in own)
    value = computed.evaluate(())
    if value is None:
        raise ValueRefused("the expression is NULL")
    return computed, value


def _base(shape: Shape, gap: int) -> int:
    """Return where a gap begins."""
    return shape.starts[gap - 1] + len(shape.constants[gap - 1]) if gap else 0


def _placed(prototype: Meaning, places: Sequence[_Place], shape: Shape) -> Meaning:
    edits: list[Edit] = []
    occurrences: list[Occurrence] = []
    for place in places:
        change = place.change
        if place.constant >= 0:
            assert isinstance(change, Occurrence)
            spelled, start = shape.constants[place.constant], shape.starts[place.constant]
            end, literal = start + len(spelled), literal_value(spelled)
            occurrences.append(dataclasses.replace(change, start=start, end=end, literal=literal))
            continue
        base = _base(shape, place.gap)
        if place.constants:
            assert isinstance(change, Occurrence)
            computed, value = _computed(change, place.constants, shape.constants)
            start, end = base + place.start, _base(shape, place.last) + place.end
            occurrences.append(dataclasses.replace(change, start=start, end=end, literal=value, computed=computed))
        elif isinstance(change, Edit):
            edits.append(Edit(base + place.start, (_base(shape, place.last) if place.last >= 0 else base) + place.end, change.text))
        else:
            occurrences.append(dataclasses.replace(change, start=base + place.start, end=base + place.end))
    return dataclasses.replace(prototype, edits=edits, occurrences=occurrences)


def template(shape: Shape, statements: Sequence[Statement], meanings: Sequence[Meaning]) -> Template | None:
    """Return the template of a text that was analysed; ``statements`` are its trees as the client meant them, not edited.

    None where a decision may depend on the value of a constant in a way that a template cannot say.
    """
    if any(_more_than_data(m.effects) or m.by_value for m in meanings):
        return None
    by_start = {start: i for i, start in enumerate(shape.starts)}
    bases = [0, *(start + len(constant) for start, constant in zip(shape.starts, shape.constants, strict=True))]
    prototypes = []
    protected: set[int] = set()
    taken: set[int] = set()
    for meaning in meanings:
        places: list[_Place] = []
        changes: list[Edit | Occurrence] = [*meaning.edits, *meaning.occurrences]
        for change in changes:
            place = _place(change, shape, by_start, bases)
            if place is None:
                return None
            protected.update(place.constants or ([place.constant] if place.constant >= 0 else ()))
            taken.update(range(place.gap, place.last) if isinstance(change, Edit) else ())
            places.append(place)
        prototypes.append((dataclasses.replace(meaning, edits=[], occurrences=[]), tuple(places)))
    free = free_constants(statements)
    others = [i for i, start in enumerate(shape.starts) if i not in protected]
    copied = _constants_of(e for m in meanings for e in m.edits)
    if copied is None or any(shape.starts[i] in free and (i in taken or shape.constants[i] in copied) for i in others):
        return None  # an edit may repeat this constant, or takes it away
    if not taken.isdisjoint(protected):
        return None
    fixed = tuple((i, shape.constants[i]) for i in others if shape.starts[i] not in free)
    if any(b'&"' in gap for gap in shape.gaps):
        return None  # a name with escapes may be any
    made = Template(tuple(prototypes), fixed, frozenset(protected), quoted_names(shape) | numbers_of_gaps(shape))
    return made if made.meanings(shape) is not None else None


def _constants_of(edits: Iterable[Edit]) -> set[bytes] | None:
    """Return the constants that stand in the texts of edits, or None where they cannot be told."""
    found: set[bytes] = set()
    for edit in edits:
        shape = shape_of(edit.text)
        if shape is None:
            return None
        found.update(shape.constants)
    return found


def _more_than_data(effects: Effects) -> bool:
    return effects != Effects(transaction=effects.transaction)


def _place(change: Edit | Occurrence, shape: Shape, by_start: dict[int, int], bases: Sequence[int]) -> _Place | None:
    """Return where a change stands, free of any value; None where it is neither one constant nor inside one gap."""
    if isinstance(change, Occurrence) and change.literal is not None and not isinstance(change.use, Renew):
        if type(change.use) not in (Store, Search) or of_elements(change.use):
            return None  # of an array, an element may be what is tainted
        if change.computed is not None:
            return _place_of_expression(change, shape, bases)
        i = by_start.get(change.start)
        if i is None:
            return None
        whole = change.end == change.start + len(shape.constants[i]) and literal_value(shape.constants[i]) == change.literal
        return _Place(dataclasses.replace(change, start=0, end=0, literal=b""), constant=i) if whole else None
    gap = bisect_right(bases, change.start) - 1
    base = bases[gap]
    if change.end > base + len(shape.gaps[gap]):
        return _place_across(change, shape, bases, gap) if isinstance(change, Edit) else None
    return _Place(change, gap=gap, start=change.start - base, end=change.end - base)


def _place_across(edit: Edit, shape: Shape, bases: Sequence[int], gap: int) -> _Place | None:
    """Return where an edit stands that takes whole constants away: the length in ``'x'::varchar(12)``."""
    last = bisect_right(bases, edit.end) - 1
    if edit.start > bases[gap] + len(shape.gaps[gap]) or edit.end > bases[last] + len(shape.gaps[last]):
        return None
    return _Place(edit, gap=gap, start=edit.start - bases[gap], end=edit.end - bases[last], last=last)


def _place_of_expression(change: Occurrence, shape: Shape, bases: Sequence[int]) -> _Place | None:
    """Return where an expression of constants stands; None where its texts are not those of its formula, one for one.

    Of equal texts it cannot be told which is which: those of ``trim('a' from 'b')`` come in the other order.
    """
    assert change.computed is not None
    inside = [i for i, start in enumerate(shape.starts) if change.start <= start < change.end]
    texts = tuple(i for i in inside if shape.constants[i][:1] == b"'")
    values = [literal_value(shape.constants[i]) for i in texts]
    if not texts or values != list(change.computed.constants()) or len(set(values)) < len(values):
        return None
    gap, last = bisect_right(bases, change.start) - 1, bisect_right(bases, change.end) - 1
    if change.start > bases[gap] + len(shape.gaps[gap]) or change.end > bases[last] + len(shape.gaps[last]):
        return None
    bare = change.computed.of_constants(iter([b""] * len(texts)))
    kept = dataclasses.replace(change, start=0, end=0, literal=b"", computed=bare)
    return _Place(kept, gap=gap, start=change.start - bases[gap], end=change.end - bases[last], last=last, constants=texts)


class Templates:
    """The templates of one planner, by what a plan's key says beside the text, and the shape. For several threads."""

    def __init__(self) -> None:
        self._adding = Lock()
        self._known: OrderedDict[tuple[object, ...], list[tuple[Template, Ready | None]]] = OrderedDict()

    def meanings(self, key: tuple[object, ...], shape: Shape) -> list[Meaning] | None:
        """Return the meanings of a text whose shape was seen, or None."""
        for known, _ in self._known.get((shape.key, *key), ()):
            found = known.meanings(shape)
            if found is not None:
                self._touch((shape.key, *key))
                return found
        return None

    def ready(self, key: tuple[object, ...], shape: Shape) -> Ready | None:
        """Return what is ready for a text whose shape was seen, or None."""
        whole, count = (shape.key, *key), len(shape.constants)
        for known, ready in self._known.get(whole, ()):
            if ready is not None and (known.alone == count or known.speaks_of(shape)):
                self._touch(whole)
                return ready
        return None

    def add(self, key: tuple[object, ...], shape: Shape, made: Template, ready: Ready | None = None) -> None:
        """Keep a template; the oldest of its shape, or the shape used longest ago, gives way."""
        whole = (shape.key, *key)
        with self._adding:
            templates = [(made, ready), *self._known.get(whole, ())]
            self._known[whole] = templates[:MAX_TEMPLATES_PER_SHAPE]
            if len(self._known) > MAX_SHAPES:
                self._known.popitem(last=False)

    def _touch(self, key: tuple[object, ...]) -> None:
        try:  # noqa: SIM105 - it is the hot path
            self._known.move_to_end(key)
        except KeyError:
            pass  # another thread has just let it go
