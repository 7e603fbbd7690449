"""A simple Query of a shape that was seen, put together without its answers: what stands between its constants is written once.

For shapes whose protected constants each become one tag or envelope, and that do nothing which the session follows. Everything else
is planned from its template, and gives the same.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from phiproxy.effects import Effects
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.compiled_convert import Conversion, Output, compile_conversion
from phiproxy.plan.statement_plan import ScriptPart, ScriptPlan, spell_bytea
from phiproxy.sql.result import Answered, Occurrence
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.text.shape import Shape, literal_value
from phiproxy.sql.values.uses import Plain

Spans = tuple[tuple[int, int, int], ...]
_NO_EFFECTS = Effects()


@dataclass(slots=True)
class SimpleQueryTemplate:
    """What is the same for all texts of a shape.

    ``gaps`` are its gaps as the server gets them, ``spans`` the edits in them (number of the gap, start and end there, new length);
    ``sealed`` are the numbers of the constants that become something else, ``outputs`` say what. ``touches`` and ``shows`` are said
    of any of the parts; ``rewrites``: the server gets another text.
    """

    parts: tuple[ScriptPart, ...]
    gaps: tuple[bytes, ...]
    spans: tuple[tuple[int, int, int, int], ...]
    sealed: tuple[int, ...]
    outputs: tuple[Output, ...]
    rewrites: bool
    touches: bool = field(init=False)
    shows: bool = field(init=False)
    _conversion: tuple[Ciphers, Conversion | None] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.touches = any(part.touches for part in self.parts)
        self.shows = any(part.columns is not None and bool(part.columns.reveals) for part in self.parts)

    def spelled(self, shape: Shape, ciphers: Ciphers) -> list[bytes] | None:
        """Return what becomes of a text's constants; KeyNeeded, ValueRefused, and None where it is not as simple as that."""
        if self._conversion is None or self._conversion[0] is not ciphers:
            self._conversion = ciphers, compile_conversion(self.outputs, ciphers)
        conversion, constants = self._conversion[1], shape.constants
        values = conversion([literal_value(constants[i]) for i in self.sealed]) if conversion is not None else None
        return None if values is None else [*map(spell_bytea, values)]

    def fill(self, shape: Shape, spelled: Sequence[bytes]) -> bytes:
        """Return the server's text for one of this shape, in which the constants that are sealed become these."""
        pieces = [b""] * (2 * len(shape.constants) + 1)
        pieces[::2], pieces[1::2] = self.gaps, shape.constants
        for i, new in zip(self.sealed, spelled, strict=True):
            pieces[2 * i + 1] = new
        return b"".join(pieces)

    def edits(self, shape: Shape, spelled: Sequence[bytes]) -> Spans:
        """Return the byte edits that ``fill`` makes."""
        starts, constants = shape.starts, shape.constants
        bases = [starts[gap - 1] + len(constants[gap - 1]) if gap else 0 for gap, _, _, _ in self.spans]
        changed = [(starts[i], starts[i] + len(constants[i]), len(new)) for i, new in zip(self.sealed, spelled, strict=True)]
        inside = [(base + start, base + end, size) for base, (_, start, end, size) in zip(bases, self.spans, strict=True)]
        return (*inside, *changed)


def simple_query_template(shape: Shape, answers: Sequence[Answered], plan: ScriptPlan) -> SimpleQueryTemplate | None:
    """Return the template of simple queries of a text's shape, from its answers and plan; None where it is not simple."""
    parts, rendered = plan.parts, plan.rendered
    occurrences = sorted(rendered.occurrences if rendered is not None else (), key=lambda o: o.start)
    numbers = {start: i for i, start in enumerate(shape.starts)}
    if not parts or any(map(_follows, parts)) or not all(_whole(o, shape, numbers) for o in occurrences):
        return None
    if rendered is None:
        return SimpleQueryTemplate(parts, shape.gaps, (), (), (), rewrites=False)
    gaps = _gaps(shape, answers, rendered, occurrences)
    if gaps is None:
        return None
    sealed = tuple(numbers[o.start] for o in occurrences)
    outputs = tuple((o.use, n, None) for n, o in enumerate(occurrences))
    simple = SimpleQueryTemplate(parts, gaps, _spans(shape, rendered), sealed, outputs, rewrites=True)
    marks = {o.start: b"'\\x%08x'::bytea" % o.start for o in occurrences}
    spelled = [marks[o.start] for o in occurrences]
    return simple if simple.fill(shape, spelled) == rendered.fill(lambda _i, o: marks[o.start]) else None


def _follows(part: ScriptPart) -> bool:
    """Tell whether a statement does something that the session follows, or reads or shows values as its styles say."""
    return part.effects != _NO_EFFECTS or part.typed or any((part.copy, part.prepared, part.cursor))


def _whole(occurrence: Occurrence, shape: Shape, numbers: dict[int, int]) -> bool:
    """Tell whether an occurrence is one whole constant and nothing else."""
    i = numbers.get(occurrence.start, -1)
    if i < 0 or occurrence.numbers or occurrence.computed is not None or occurrence.other is not None:
        return False
    spelled = shape.constants[i]
    return occurrence.end == occurrence.start + len(spelled) and occurrence.literal == literal_value(spelled)


def _gaps(
    shape: Shape, answers: Sequence[Answered], rendered: Rendered, occurrences: Sequence[Occurrence]
) -> tuple[bytes, ...] | None:
    """Return the gaps with the edits in them, as if every constant became something else; None where an edit takes one away."""
    own, edits = {o.start: o for o in occurrences}, list({e: None for m in answers for e in m.edits})
    if len(own) < len(occurrences) or any(e.start <= start < e.end for e in edits for start in shape.starts):
        return None
    constants = [
        own.get(start) or Occurrence(start, start + len(spelled), Plain())
        for start, spelled in zip(shape.starts, shape.constants, strict=True)
    ]
    gaps = tuple(Rendered(rendered.client, edits, constants).pieces)
    return gaps if len(gaps) == len(shape.gaps) else None


def _spans(shape: Shape, rendered: Rendered) -> tuple[tuple[int, int, int, int], ...]:
    bases = [0, *(start + len(spelled) for start, spelled in zip(shape.starts, shape.constants, strict=True))]
    placed = [(bisect_right(bases, start) - 1, start, end, size) for start, end, size in rendered.spans]
    return tuple((gap, start - bases[gap], end - bases[gap], size) for gap, start, end, size in placed)
