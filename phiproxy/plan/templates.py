"""What was understood of one text, for all texts of its shape: the analysis is paid once, whatever the literals are.

A template holds gaps and decisions, never the value of a protected literal. It is made only where every constant of the text is
one of three things: a whole protected occurrence, free, or *fixed*, which means that the template is only for texts with this very
constant in this position. Everything else has no template and is analysed in full each time.
"""

import dataclasses
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from threading import Lock

from phiproxy.effects import Effects
from phiproxy.errors import ValueRefused
from phiproxy.frozen import dataclass
from phiproxy.plan.simple_query_template import SimpleQueryTemplate
from phiproxy.sql.expressions.repeated_in_clear import ProtectedValues, elements_of
from phiproxy.sql.result import Answered, Edit, Occurrence
from phiproxy.sql.text.parse import Statement
from phiproxy.sql.text.shape import Shape, free_constants, literal_value, numbers_of_gaps, quoted_names, shape_of
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import Renew, Search, Store, of_elements

# About 4 KiB each, as plans. Texts whose fixed constants differ each time would otherwise fill a shape without end.
MAX_SHAPES = 2048
MAX_TEMPLATES_PER_SHAPE = 8


@dataclass(frozen=True, slots=True)
class _Anchor:
    """An edit or occurrence, and where it is in every text of the shape: one constant, or a part of a gap or of several."""

    change: Edit | Occurrence
    """It, without its offsets, and without a value."""
    constant: int = -1
    """The number of the constant that it is."""
    gap: int = -1
    """The gap in which it begins, where it is no constant."""
    start: int = 0
    """The offset in that gap at which it begins."""
    end: int = 0
    """The offset at which it ends, in the gap ``last``."""
    last: int = -1
    """The gap in which an expression of constants ends, or an edit that takes constants away; -1 where that is ``gap``."""
    constants: tuple[int, ...] = ()
    """The numbers of the constants of an expression."""


@dataclass(frozen=True, slots=True)
class Template:
    """The answers to all texts of a shape."""

    prototypes: tuple[tuple[Answered, tuple[_Anchor, ...]], ...]
    """The answer to each statement, without its edits and occurrences, and the anchors of these."""
    fixed: tuple[tuple[int, bytes], ...]
    """The constants, by number, that a text must have for its answers to be these."""
    protected: frozenset[int]
    """The numbers of the protected constants."""
    names: frozenset[bytes] = frozenset()
    """The names and numbers that all texts have, and that a protected constant may not repeat."""
    all_protected: int = field(init=False, compare=False)
    """Where that is how many constants there are, each is protected by itself, and nothing else can repeat one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "all_protected", -1 if self.names or any(self.expressions) else len(self.protected))

    def answers(self, shape: Shape) -> list[Answered] | None:
        """Return the answers of another text of the shape, or None where this template does not speak of it."""
        try:
            return (
                [_at_anchors(prototype, anchors, shape) for prototype, anchors in self.prototypes]
                if self.speaks_of(shape)
                else None
            )
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
        """Tell whether no unprotected constant or name repeats a protected one: that would be a use of it (spec/sql 2.4)."""
        if self.all_protected == len(constants):
            return True
        protected = [literal_value(constants[i]) for i in self.protected]
        protected += [_computed(change, own, constants)[1] for change, own in self.expressions]
        protected += [element for value in protected for element in elements_of(value)]
        # All constants are taken for those of one row: where a number is repeated in another, the text is analysed.
        values = ProtectedValues(((value, None) for value in protected), lambda _: None)
        if any(values.repeated_by(name, None) for name in self.names):
            return False
        return not any(values.repeated_by_constant(c, None) for i, c in enumerate(constants) if i not in self.protected)

    @property
    def expressions(self) -> Iterator[tuple[Occurrence, tuple[int, ...]]]:
        """The occurrences that are expressions of constants, with the numbers of these."""
        for _, anchors in self.prototypes:
            for anchor in anchors:
                if anchor.constants and isinstance(anchor.change, Occurrence):
                    yield anchor.change, anchor.constants


def _computed(change: Occurrence, own: Sequence[int], constants: Sequence[bytes]) -> tuple[Formula, bytes]:
    """Return an expression of these constants, and its value. ValueRefused, also for NULL, which stands for something else."""
    assert change.computed is not None
    computed = change.computed.of_constants(literal_value(constants[i]) for i in own)
    value = computed.evaluate(())
    if value is None:
        raise ValueRefused("the expression is NULL")
    return computed, value


def _base(shape: Shape, gap: int) -> int:
    return shape.starts[gap - 1] + len(shape.constants[gap - 1]) if gap else 0


def _at_anchors(prototype: Answered, anchors: Sequence[_Anchor], shape: Shape) -> Answered:
    edits: list[Edit] = []
    occurrences: list[Occurrence] = []
    for anchor in anchors:
        change = anchor.change
        if anchor.constant >= 0:
            assert isinstance(change, Occurrence)
            spelled, start = shape.constants[anchor.constant], shape.starts[anchor.constant]
            end, literal = start + len(spelled), literal_value(spelled)
            occurrences.append(change.at(start, end, literal))
            continue
        base = _base(shape, anchor.gap)
        if anchor.constants:
            assert isinstance(change, Occurrence)
            computed, value = _computed(change, anchor.constants, shape.constants)
            start, end = base + anchor.start, _base(shape, anchor.last) + anchor.end
            occurrences.append(dataclasses.replace(change, start=start, end=end, literal=value, computed=computed))
        elif isinstance(change, Edit):
            edits.append(
                Edit(base + anchor.start, (_base(shape, anchor.last) if anchor.last >= 0 else base) + anchor.end, change.text)
            )
        else:
            occurrences.append(change.at(base + anchor.start, base + anchor.end, change.literal))
    return dataclasses.replace(prototype, edits=edits, occurrences=occurrences)


def template(shape: Shape, statements: Sequence[Statement], answers: Sequence[Answered]) -> Template | None:
    """Return the template of a text that was analysed; ``statements`` are its trees as the client meant them, not edited.

    None where a decision may depend on the value of a constant in a way that a template cannot say.
    """
    if any(m.effects != Effects(transaction=m.effects.transaction) or m.by_value for m in answers):
        return None
    by_start = {start: i for i, start in enumerate(shape.starts)}
    bases = [0, *(start + len(constant) for start, constant in zip(shape.starts, shape.constants, strict=True))]
    prototypes = []
    protected: set[int] = set()
    taken: set[int] = set()
    for answer in answers:
        anchors: list[_Anchor] = []
        changes: list[Edit | Occurrence] = [*answer.edits, *answer.occurrences]
        for change in changes:
            anchor = _anchor(change, shape, by_start, bases)
            if anchor is None:
                return None
            protected.update(anchor.constants or ([anchor.constant] if anchor.constant >= 0 else ()))
            taken.update(range(anchor.gap, anchor.last) if isinstance(change, Edit) else ())
            anchors.append(anchor)
        prototypes.append((dataclasses.replace(answer, edits=[], occurrences=[]), tuple(anchors)))
    others = [i for i in range(len(shape.starts)) if i not in protected]
    free = free_constants(statements) if others else ()
    copied = _constants_of(e for m in answers for e in m.edits) if others else set()
    if copied is None or any(shape.starts[i] in free and (i in taken or shape.constants[i] in copied) for i in others):
        return None  # an edit may repeat this constant, or takes it away
    if not taken.isdisjoint(protected):
        return None
    fixed = tuple((i, shape.constants[i]) for i in others if shape.starts[i] not in free)
    if any(b'&"' in gap for gap in shape.gaps):
        return None  # a name with escapes may be any
    of_shape = Template(tuple(prototypes), fixed, frozenset(protected), quoted_names(shape) | numbers_of_gaps(shape))
    try:
        return of_shape if of_shape.speaks_of(shape) else None
    except ValueRefused:
        return None


def _constants_of(edits: Iterable[Edit]) -> set[bytes] | None:
    """Return the constants that stand in the texts of edits, or None where they cannot be told."""
    constants: set[bytes] = set()
    for edit in edits:
        shape = shape_of(edit.text)
        if shape is None:
            return None
        constants.update(shape.constants)
    return constants


def _anchor(change: Edit | Occurrence, shape: Shape, by_start: dict[int, int], bases: Sequence[int]) -> _Anchor | None:
    """Return where a change stands, free of any value; None where it is neither one constant nor inside one gap."""
    if isinstance(change, Occurrence) and change.literal is not None and not isinstance(change.use, Renew):
        if type(change.use) not in (Store, Search) or of_elements(change.use):
            return None  # of an array, an element may be what is tainted
        if change.computed is not None:
            return _anchor_of_expression(change, shape, bases)
        i = by_start.get(change.start)
        if i is None:
            return None
        whole = change.end == change.start + len(shape.constants[i]) and literal_value(shape.constants[i]) == change.literal
        return _Anchor(change.at(0, 0, b""), constant=i) if whole else None
    gap = bisect_right(bases, change.start) - 1
    base = bases[gap]
    if change.end > base + len(shape.gaps[gap]):
        return _anchor_across(change, shape, bases, gap) if isinstance(change, Edit) else None
    return _Anchor(change, gap=gap, start=change.start - base, end=change.end - base)


def _anchor_across(edit: Edit, shape: Shape, bases: Sequence[int], gap: int) -> _Anchor | None:
    """Return where an edit stands that takes whole constants away: the length in ``'x'::varchar(12)``."""
    last = bisect_right(bases, edit.end) - 1
    if edit.start > bases[gap] + len(shape.gaps[gap]) or edit.end > bases[last] + len(shape.gaps[last]):
        return None
    return _Anchor(edit, gap=gap, start=edit.start - bases[gap], end=edit.end - bases[last], last=last)


def _anchor_of_expression(change: Occurrence, shape: Shape, bases: Sequence[int]) -> _Anchor | None:
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
    bare_change = dataclasses.replace(change, start=0, end=0, literal=b"", computed=bare)
    return _Anchor(bare_change, gap=gap, start=change.start - bases[gap], end=change.end - bases[last], last=last, constants=texts)


@dataclass(slots=True)
class _Entry:
    """A template, and what simple queries of its shape are put together from, once there was another one (``tried``)."""

    template: Template
    simple: SimpleQueryTemplate | None = None
    tried: bool = False


class Templates:
    """The templates of one planner, by what a plan's key says beside the text, and the shape. For several threads."""

    def __init__(self) -> None:
        self._adding = Lock()
        self._entries: OrderedDict[tuple[object, ...], list[_Entry]] = OrderedDict()

    def answers(self, key: tuple[object, ...], shape: Shape) -> list[Answered] | None:
        """Return the answers of a text whose shape was seen, or None."""
        for entry in self._entries.get((shape.key, *key), ()):
            answers = entry.template.answers(shape)
            if answers is not None:
                self._touch((shape.key, *key))
                return answers
        return None

    def simple(
        self, key: tuple[object, ...], shape: Shape, make: Callable[[list[Answered]], SimpleQueryTemplate | None]
    ) -> SimpleQueryTemplate | None:
        """Return the template of simple queries whose shape was seen, or None; ``make`` makes it of the answers to one of them."""
        whole, count = (shape.key, *key), len(shape.constants)
        for entry in self._entries.get(whole, ()):
            if not entry.tried:
                answers = entry.template.answers(shape)
                if answers is None:
                    continue
                entry.simple, entry.tried = make(answers), True
            if entry.simple is not None and (entry.template.all_protected == count or entry.template.speaks_of(shape)):
                self._touch(whole)
                return entry.simple
        return None

    def add(self, key: tuple[object, ...], shape: Shape, of_shape: Template) -> None:
        """Keep a template; the oldest of its shape, or the shape used longest ago, gives way."""
        whole = (shape.key, *key)
        with self._adding:
            templates = [_Entry(of_shape), *self._entries.get(whole, ())]
            self._entries[whole] = templates[:MAX_TEMPLATES_PER_SHAPE]
            if len(self._entries) > MAX_SHAPES:
                self._entries.popitem(last=False)

    def _touch(self, key: tuple[object, ...]) -> None:
        try:  # noqa: SIM105 - it is the hot path
            self._entries.move_to_end(key)
        except KeyError:
            pass  # another thread has just let it go
