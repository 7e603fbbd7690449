"""Phiproxy's own spelling of index expressions: ``@`` for the column, ``left(lower(@),3)``, ``extract('year',@)``, ``@::date``.

What the registry keeps for ever, and what index keys are derived from; knows neither types nor what a function does. A parser
library's printer would not do: it prints equal expressions differently from one version to the next.
"""

from __future__ import annotations

import re

from phiproxy.errors import ConfigError
from phiproxy.frozen import dataclass

IDENTITY = "@"

_TOKEN = re.compile(r"(?P<sign>@|::|[(),])|(?P<name>[a-z_][a-z0-9_]*)|(?P<number>-?[0-9]+)|'(?P<text>(?:[^']|'')*)'")
_END = ("end", "")


@dataclass(frozen=True, slots=True)
class Column:
    """The indexed column itself."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A string or an integer."""

    value: str | int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of PostgreSQL's own, by its name without a schema."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast that changes the type, by PostgreSQL's short name of it."""

    argument: Expression
    type: str


Expression = Column | Constant | Call | Cast


def write(expression: Expression) -> str:
    """Spell an expression: lower-case names, no blanks, strings in quotes."""
    match expression:
        case Column():
            return IDENTITY
        case Constant(value=str(text)):
            return "'" + text.replace("'", "''") + "'"
        case Constant(value=number):
            return str(number)
        case Cast(argument=argument, type=name):
            return f"{write(argument)}::{name}"
        case Call(name=name, arguments=arguments):
            return f"{name}({','.join(write(a) for a in arguments)})"


def read(text: str) -> Expression:
    """Read what ``write`` has written; ConfigError for anything else, be it only spelled differently."""
    reader = _Reader(text)
    expression = reader.expression()
    if reader.token != _END or write(expression) != text:
        raise reader.unreadable()
    return expression


class _Reader:
    """Tokens from left to right; ``token`` is the next one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self.token = _END
        self._advance()

    def unreadable(self) -> ConfigError:
        return ConfigError(f"{self._text!r} is not spelled as an index expression is in the registry, as in left(lower(@),3)")

    def expression(self) -> Expression:
        expression = self._primary()
        while self.token == ("sign", "::"):
            self._advance()
            expression = Cast(expression, self._take("name"))
        return expression

    def _primary(self) -> Expression:
        kind, value = self.token
        self._advance()
        if (kind, value) == ("sign", "@"):
            return Column()
        if kind == "number":
            return Constant(int(value))
        if kind == "text":
            return Constant(value.replace("''", "'"))
        if kind != "name":
            raise self.unreadable()
        self._take("sign", "(")
        arguments = [self.expression()]
        while self.token == ("sign", ","):
            self._advance()
            arguments.append(self.expression())
        self._take("sign", ")")
        return Call(value, tuple(arguments))

    def _take(self, kind: str, value: str | None = None) -> str:
        token = self.token
        if token[0] != kind or value not in (None, token[1]):
            raise self.unreadable()
        self._advance()
        return token[1]

    def _advance(self) -> None:
        if self._position == len(self._text):
            self.token = _END
            return
        match = _TOKEN.match(self._text, self._position)
        if match is None or match.lastgroup is None:
            raise self.unreadable()
        self._position = match.end()
        self.token = (match.lastgroup, match[match.lastgroup])
