"""What is at a path of a ``json``, which keeps its text: ``get_worker`` of jsonfuncs.c, on the text itself.

What it gives is a piece of the text as it stands, blanks and all. Of repeated keys each is followed, and the last value that is
found counts: of ``{"a": {"b": 1}, "a": 5}`` that is 1 for ``#> '{a,b}'`` and nothing for ``-> 'a' -> 'b'``, which asks twice.
"""

from __future__ import annotations

import json
import re

from phiproxy.documents.path_operators import Key, KeyOrPosition, Position, Step
from phiproxy.types.json_types import parse
from phiproxy.types.value_errors import UntranslatableCharacter, bad_syntax

_TOKEN = re.compile(r'[ \t\n\r]*("(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\[\]{},:" \t\n\r]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)
_STRING = json.JSONDecoder(strict=False)


def at_path(document: bytes, steps: tuple[Step, ...], *, as_text: bool) -> bytes | None:
    """Return what ``#>`` gives, or a single ``->``; ``as_text``: what ``#>>`` and ``->>`` give. None for NULL.

    ValueRefused where PostgreSQL refuses: it reads every string of the document, whatever the path is.
    """
    parse(document)
    text = document.decode()
    tokens = [(match.start(1), match.end(1)) for match in _TOKEN.finditer(text)]
    for start, end in tokens:
        if text[start] == '"' and "\\" in text[start:end]:
            _check_escapes(text[start:end])
    reader = _Reader(text, tokens, steps)
    reader.value(0, matches=True)
    if reader.span is None:
        return None
    piece = text[slice(*reader.span)]
    if as_text and piece[0] == '"':
        return str(_STRING.decode(piece)).encode()
    return None if as_text and piece == "null" else piece.encode()


def _check_escapes(string: str) -> None:
    """Refuse escapes of which PostgreSQL can make no character: U+0000, and halves of a surrogate pair."""
    half_before = -1
    for match in _ESCAPE.finditer(string):
        code = int(match[1], 16) if match[1] else -1
        if code in _LOW and half_before == match.start():
            half_before = -1
            continue
        if half_before >= 0 or code in _LOW:
            raise bad_syntax("json")
        if code == 0:
            raise UntranslatableCharacter("unsupported Unicode escape sequence")
        half_before = match.end() if code in _HIGH else -1
    if half_before >= 0:
        raise bad_syntax("json")


class _Reader:
    """One pass over the tokens of a document; ``span`` is where the last value stands that is at the path."""

    def __init__(self, text: str, tokens: list[tuple[int, int]], steps: tuple[Step, ...]) -> None:
        self._text = text
        self._tokens = tokens
        self._steps = steps
        self._next = 0
        self.span: tuple[int, int] | None = None

    def value(self, level: int, *, matches: bool) -> None:
        """Read one value; ``matches``: the first ``level`` steps have led to it."""
        first = self._next
        opening = self._take()
        if opening == "{":
            self._object(level, self._steps[level] if matches and level < len(self._steps) else None)
        elif opening == "[":
            self._array(level, self._steps[level] if matches and level < len(self._steps) else None)
        if matches and level == len(self._steps):
            self.span = self._tokens[first][0], self._tokens[self._next - 1][1]

    def _object(self, level: int, step: Step | None) -> None:
        wanted = step.name if isinstance(step, Key | KeyOrPosition) else None
        while (key := self._take()) != "}":
            if key == ",":
                continue
            self._take()  # the colon
            self.value(level + 1, matches=wanted is not None and _STRING.decode(key) == wanted)

    def _array(self, level: int, step: Step | None) -> None:
        wanted = step.number if isinstance(step, Position | KeyOrPosition) else None
        count = 0
        while (sign := self._peek()) != "]":
            if sign == ",":
                self._take()
                continue
            self.value(level + 1, matches=count == wanted)
            count += 1
        self._take()

    def _peek(self) -> str:
        start, end = self._tokens[self._next]
        return self._text[start:end]

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token
