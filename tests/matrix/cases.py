"""The cases: for each number of a seed one statement, how it is sent, and what it is a case of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from tests.matrix.axes import BY_KEY, PROTECTED, TYPES, UNINDEXED, Type
from tests.matrix.contexts import CONDITIONS, CONTEXTS, MERGING, WRITING, Context
from tests.matrix.draws import Draw
from tests.matrix.given import Giver, Parameter, quoted, right_types

Way = Literal["simple", "extended", "named", "execute"]
ZONES = ("UTC", "America/New_York")
# So many cases in a row run in one time zone.
PER_ZONE = 1000
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Case:
    """A statement, how it is sent, and where in the matrix it lies. ``choices`` make it again."""

    statement: str
    parameters: tuple[Parameter, ...]
    way: Way
    binary_results: bool
    null_equals: bool
    zone: str
    context: str
    operator: str
    left: str
    right: tuple[str, ...]
    given: tuple[str, ...]
    since: int
    choices: tuple[int, ...]

    @property
    def writes(self) -> bool:
        """Whether the tables are compared after it."""
        return self.context in WRITING

    @property
    def merges(self) -> bool:
        """Whether of equal values one is shown, and which is nobody's: 0 or -0, 1 or 1.00."""
        return self.context in MERGING

    def described(self) -> str:
        """Return what one needs to run it by hand."""
        sent = [
            f"${n} = {p.value!r} ({p.declared or 'undeclared'}{', binary' if p.binary else ''})"
            for n, p in enumerate(self.parameters, 1)
        ]
        more = (
            ["binary results"] * self.binary_results
            + ["transform_null_equals"] * self.null_equals
            + [self.zone] * (self.zone != ZONES[0])
        )
        return f"{self.statement}  -- {'; '.join([self.way, *sent, *more])}"


def case(seed: int, number: int) -> Case:
    """Return case ``number`` of a seed."""
    return drawn(Draw(f"{seed}/{number}"), ZONES[number // PER_ZONE % len(ZONES)])


# Beside all pairs of axes, of which triples a case is to have a new one: what decides how a value meets a column.
_TRIPLES = tuple(
    tuple(names.split())
    for names in (
        "operator left right",
        "operator left given",
        "operator right given",
        "operator context given",
        "operator context way",
        "left right way",
        "left right given",
    )
)


def met(case: Case) -> set[tuple[str, ...]]:
    """Return which choices meet in a case: all pairs of them, and some triples."""
    axes: dict[str, tuple[str, ...]] = {
        "context": (case.context,),
        "operator": (case.operator,),
        "left": (case.left,),
        "right": tuple(set(case.right)),
        "given": tuple({way.partition(":")[0] for way in case.given}),
        "way": (case.way,),
        "binary": (str(case.binary_results),),
        "null": (str(case.null_equals),),
        "zone": (case.zone,),
    }
    chosen = sorted((axis, choice) for axis, choices in axes.items() for choice in choices)
    found: set[tuple[str, ...]] = {(*one, *other) for one, other in combinations(chosen, 2)}
    for triple in _TRIPLES:
        found.update((*triple, *choices) for choices in product(*(axes[axis] for axis in triple)))
    return found


class Met:
    """What has met in the cases so far."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, ...]] = set()

    def adds(self, case: Case) -> bool:
        """Add a case; tells whether something meets in it that met in none before."""
        here = met(case)
        if here <= self.seen:
            return False
        self.seen |= here
        return True


def drawn(draw: Draw, zone: str) -> Case:
    """Return the case that these choices make."""
    context = draw.of(CONTEXTS)
    template = draw.of(context.templates)
    left = draw.of(PROTECTED)
    way: Way = draw.of(("simple", "extended", "named", "execute", "extended", "simple", "extended", "named"))
    giver = Giver(draw, right_types(draw, left), way != "simple")
    column = "u" if left.key in UNINDEXED and draw.once_in(8) else "c"
    maker = _Maker(draw, giver, left, f"{column}_{left.key}", context)
    statement = maker.filled(template)
    if way == "execute" and not giver.parameters:
        way = "extended"
    null_equals = draw.once_in(2 if maker.operator == "null" else 30)
    return Case(
        statement=statement,
        parameters=tuple(giver.parameters),
        way=way,
        binary_results=way in ("extended", "named") and context.name not in MERGING and draw.once_in(3),
        null_equals=null_equals,
        zone=zone,
        context=context.name,
        operator=maker.operator,
        left=left.key,
        right=tuple(t.key for t in giver.types),
        given=tuple(giver.ways),
        since=context.since,
        choices=tuple(draw.taken),
    )


class _Maker:
    """Fills the slots of a template."""

    def __init__(self, draw: Draw, giver: Giver, left: Type, column: str, context: Context) -> None:
        self.operator = "-"
        self._draw, self._giver, self._left, self._column = draw, giver, left, column
        # MERGE's and ON CONFLICT's own table has its name there; elsewhere a column may stand without it.
        self._qualified = context.name in (
            "JOIN ON",
            "JOIN (VALUES)",
            "JOIN column",
            "subselect",
            "elsewhere",
            "MERGE",
            "ON CONFLICT",
        )

    def filled(self, template: str) -> str:
        """Return the template with something in each slot, in their order."""
        return _SLOT.sub(lambda slot: self._slot(slot[1]), template)

    def _slot(self, slot: str) -> str:
        match slot:
            case "c":
                return f"m.{self._column}" if self._qualified or self._draw.once_in(3) else self._column
            case "col":
                return self._column
            case "v":
                return self._giver.value()
            case "a":
                return self._giver.array()
            case "t":
                return self._giver.type().name
            case "p":
                type_ = self._giver.type()
                return f"p.p_{type_.key}"
            case "d":
                return f"m.{self._other()}"
            case "dcol":
                return self._other()
            case "cond":
                self.operator = self._draw.of(tuple(CONDITIONS))
                return "(" + self.filled(self._draw.of(CONDITIONS[self.operator])) + ")"
        raise AssertionError(slot)

    def _other(self) -> str:
        """Return another protected column: of a type of the right side, or of any."""
        type_ = self._giver.type()
        return f"c_{type_.key}" if type_.protected else "c_tx"


def arguments(parameters: tuple[Parameter, ...]) -> tuple[str, str]:
    """Return the types of PREPARE and the arguments of EXECUTE."""
    names = ", ".join(declared_name(p.declared) or "unknown" for p in parameters)
    values = ", ".join("NULL" if p.value is None else quoted(p.value) for p in parameters)
    return names, values


def declared_name(key: str) -> str:
    """Return the name of the type that a parameter is declared as: one without a length, or none."""
    if not key:
        return ""
    return BY_KEY[key.removesuffix("[]")].base + ("[]" if key.endswith("[]") else "")


DECLARABLE = tuple(t.key for t in TYPES) + tuple(f"{t.key}[]" for t in TYPES if t.family != "array")
