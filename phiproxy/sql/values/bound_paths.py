"""Paths into documents some steps of which are parameters: when they are bound, it is known which index answers, if any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from phiproxy.errors import ConfigError
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Cast, Constant, Expression, write
from phiproxy.policy.identifiers import shown_expression
from phiproxy.sql.values.index_spelling import add_index, await_index
from phiproxy.sql.values.path_steps import Bound
from phiproxy.sql.values.patterns import NotAnswered

_OWN, _OTHER = b"\x01", b"\x00"


@dataclass(frozen=True, slots=True)
class BoundPath:
    """An index that may answer what is compared with such a path; ``answered`` are the expressions of all that may.

    ``template`` is the path with its parameters, over a column of the type ``type_name``. ``column`` is the name of the column in
    it, ``owner`` the column with its table. ``waiting`` are the expressions of indexes that answer nothing yet.
    """

    own: str
    template: Expression
    answered: frozenset[str]
    type_name: str
    column: str
    owner: str
    waiting: frozenset[str] = frozenset()

    def subject(self, steps: Mapping[int, str], value: bytes) -> bytes:
        """Return the value with a mark whether this index must have its tag, by the parameters; NotAnswered where none does."""
        try:
            expression = write(normal(_filled(self.template, steps), self.type_name))
        except ConfigError as error:
            raise NotAnswered(f"no blind index answers this path of {self.owner}", hint=error.message) from None
        if expression == self.own:
            return _OWN + value
        if expression in self.answered:
            return _OTHER
        shown = shown_expression(expression, self.column)
        hint = await_index(shown) if expression in self.waiting else add_index(f"`{shown}`", self.owner)
        raise NotAnswered(f"no blind index answers this path of {self.owner}", hint=hint)


class OfPath:
    """How such a value is compared: by its tag where this index is asked, else with what equals no tag."""

    __slots__ = ()

    def tag(self, value: bytes, search: Callable[[bytes], bytes]) -> bytes | None:
        """Return the tag of a value that ``BoundPath.subject`` has marked; None for another index."""
        return search(value[1:]) if value[:1] == _OWN else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OfPath)

    def __hash__(self) -> int:
        return hash(OfPath)


def parameters(template: Expression) -> tuple[int, ...]:
    """Return the numbers of the parameters in a template, in their order; the same one as often as it stands there."""
    match template:
        case Bound(number=number):
            return (number,)
        case Call(arguments=arguments):
            return tuple(number for argument in arguments for number in parameters(argument))
        case Cast(argument=argument):
            return parameters(argument)
    return ()


def _filled(template: Expression, steps: Mapping[int, str]) -> Expression:
    match template:
        case Bound(number=number):
            return Constant(steps[number])
        case Call(name=name, arguments=arguments):
            return Call(name, tuple(_filled(argument, steps) for argument in arguments))
        case Cast(argument=argument, type=target):
            return Cast(_filled(argument, steps), target)
    return template
