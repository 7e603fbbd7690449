"""How a value is given: as one of the kinds of literals, or as a parameter, declared or not."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.matrix.axes import BY_KEY, FAMILIES, TYPES, Type
from tests.matrix.draws import Draw

UNDECLARED = ""
# The first is the simplest; what is listed twice is drawn twice as often.
LITERALS = ("untyped", "cast", "function", "prefix", "bare", "bare", "bare cast", "null", "null cast")
PARAMETERS = ("param", "param", "declared", "declared", "declared", "param cast", "declared cast", "declared null")


@dataclass(frozen=True)
class Parameter:
    """A value that is sent apart, as text; ``of`` is the key of its type, ``declared`` that of the one it is declared as, or ''."""

    value: str | None
    of: str
    declared: str
    binary: bool


@dataclass
class Giver:
    """Gives values of the types on the right side; remembers the parameters, and in what ways values were given."""

    draw: Draw
    types: tuple[Type, ...]
    with_parameters: bool
    parameters: list[Parameter] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)

    def type(self) -> Type:
        """Return one of the types of the right side."""
        return self.draw.of(self.types)

    def text_of(self, type_: Type) -> str:
        """Return a value as text, once in a while one that the type does not take."""
        if type_.bad and self.draw.once_in(12):
            return self.draw.of(type_.bad)
        return self.draw.of(type_.values)

    def value(self) -> str:
        """Return a value as it is written in the statement."""
        type_ = self.type()
        way = self.draw.of(PARAMETERS if self.with_parameters and not self.draw.once_in(3) else LITERALS)
        if (way == "prefix" and not type_.prefixed) or (way.startswith("bare") and not type_.bare):
            way = "untyped"
        self.ways.append(f"{way}:{type_.key}")
        if "declared" in way or "param" in way:
            return self._parameter(type_, way)
        return literal(self.text_of(type_), type_, way)

    def _parameter(self, type_: Type, way: str) -> str:
        """Return a parameter, now and then one that there is already."""
        cast = f"::{type_.name}" if way.endswith("cast") else ""
        if self.parameters and self.draw.once_in(8):
            return f"${1 + self.draw.below(len(self.parameters))}{cast}"
        declared = UNDECLARED
        if way == "declared cast":
            declared = self.draw.of(FAMILIES[type_.family]).key
        elif way.startswith("declared"):
            declared = type_.key
        value = None if way == "declared null" else self.text_of(type_)
        self.parameters.append(Parameter(value, declared or type_.key, declared, self.draw.once_in(3)))
        return f"${len(self.parameters)}{cast}"

    def array(self) -> str:
        """Return an array of values."""
        way = self.draw.below(8 if self.with_parameters else 5)
        if way < 2:
            return (
                f"ARRAY[{', '.join(self.value() for _ in range(1 + self.draw.below(3)))}]{'' if way == 0 else self._array_cast()}"
            )
        type_ = self.type()
        if type_.family == "array":
            return self.value()
        values = [self.text_of(type_) for _ in range(1 + self.draw.below(3))]
        text = "{" + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values) + "}"
        self.ways.append(f"array {way}:{type_.key}")
        if way < 5:
            return quoted(text) + ("" if way == 2 else f"::{type_.name}[]")
        declared = UNDECLARED if way == 5 else f"{type_.key}[]"
        self.parameters.append(Parameter(text, declared or f"{type_.key}[]", declared, binary=False))
        return f"${len(self.parameters)}{f'::{type_.name}[]' if way == 7 else ''}"

    def _array_cast(self) -> str:
        return f"::{self.type().name}[]" if "[]" not in self.types[0].name else ""


def quoted(text: str) -> str:
    """Return a string constant."""
    return "'" + text.replace("'", "''") + "'"


def literal(text: str, type_: Type, way: str) -> str:
    """Write a value as a constant in one of the ways; without quotes only where the text is a number or a truth value."""
    if way == "null":
        return "NULL"
    if way == "null cast":
        return f"NULL::{type_.name}"
    if way.startswith("bare") and text and (text in ("true", "false") or text.lstrip("-").replace(".", "", 1).isdigit()):
        return f"({text})::{type_.name}" if way == "bare cast" else text
    if way == "cast":
        return f"{quoted(text)}::{type_.name}"
    if way == "function":
        return f"CAST({quoted(text)} AS {type_.name})"
    if way == "prefix":
        return f"{type_.name} {quoted(text)}"
    return quoted(text)


def right_types(draw: Draw, left: Type) -> tuple[Type, ...]:
    """Return the types of the right side: mostly of the left one's family, where most has a meaning; more than one now and then."""
    count = 2 if draw.once_in(3) else 1
    kin = FAMILIES[left.family]
    return tuple(dict.fromkeys(_right(draw, left, kin) for _ in range(count)))


def _right(draw: Draw, left: Type, kin: tuple[Type, ...]) -> Type:
    choice = draw.below(10)
    if choice < 3:
        return left
    if choice < 8:
        return draw.of(kin)
    return BY_KEY["tx"] if choice == 8 else draw.of(TYPES)
