"""Patterns (manual 9.7: LIKE, ``^@``, regular expressions) as what an index can have: a whole value, or its beginning or end.

``left(n, 3) = 'smi'`` is true of exactly the values of which ``n LIKE 'smi%'`` is, so nothing is filtered afterwards; of every
other pattern it is said that no index answers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from phiproxy.errors import NoIndexAnswers, ValueRefused
from phiproxy.index.characters import ASCII, Characters
from phiproxy.policy.names import shown_expression
from phiproxy.sql.indexhints import add_index, await_index

Part = Literal["whole", "left", "right", "all"]
Key = tuple[Part, int]
Syntax = Literal["like", "prefix", "regex"]
# What a pattern asks for that every value matches: nothing.
EVERYTHING: Key = ("all", 0)
# A regular expression that says no more than how a value begins, or what it is: characters that mean themselves, there or behind a
# backslash. In any case: other rules than those of lower(); beyond this there are none that an index could answer.
_REGEX = re.compile(r"\^((?:[\w ,;:@#%&/=<>~!\"'-]|\\[^\w])*)(\$?)")


class NotAnswered(ValueRefused):
    """No blind index answers a pattern or range that is a parameter's (0A000): as of a literal, which is refused before."""

    sqlstate = "0A000"
    anchor = NoIndexAnswers.anchor


def read_pattern(pattern: bytes, escape: str) -> tuple[Part, str] | None:
    """Return which part of a value must be equal to what text, or None for another pattern; ``escape`` is empty for none."""
    characters: list[tuple[str, bool]] = []
    text = iter(pattern.decode())
    for character in text:
        if character == escape:
            literal = next(text, None)
            if literal is None:
                return None
            characters.append((literal, True))
        else:
            characters.append((character, False))
    left = right = 0
    while left < len(characters) and characters[left] == ("%", False):
        left += 1
    while right < len(characters) - left and characters[-1 - right] == ("%", False):
        right += 1
    inner = characters[left : len(characters) - right]
    if (left and right) or (left and not inner) or any(c in (("%", False), ("_", False)) for c in inner):
        return None
    return ("right" if left else "left" if right else "whole"), "".join(c for c, _ in inner)


def read_regex(pattern: bytes) -> tuple[Part, str] | None:
    """Return the same of a regular expression."""
    match = _REGEX.fullmatch(pattern.decode())
    return None if match is None else ("whole" if match[2] else "left", re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL))


def is_everything(pattern: bytes, syntax: Syntax, escape: str) -> bool:
    """Tell whether every value matches."""
    if syntax == "like":
        return bool(pattern) and not pattern.strip(b"%") and escape != "%"
    return pattern in ((b"",) if syntax == "prefix" else (b"", b"^"))


@dataclass(frozen=True, slots=True)
class Like:
    """One index that may answer a pattern: it has the ``part`` of a value. ``answered`` is what all that may do.

    With the part ``EVERYTHING`` it is no index, but what tells that every value matches.

    ``over`` is the expression whose pattern it is, in phiproxy's own spelling, ``column`` the name of the column in it and
    ``owner`` the column in full; ``fold``: in any case, by the ``characters`` of the database. ``waiting``: see ``missing``.
    """

    part: Key
    answered: frozenset[Key]
    fold: bool
    escape: str
    over: str
    column: str
    owner: str
    characters: Characters = ASCII
    syntax: Syntax = "like"
    waiting: frozenset[str] = frozenset()

    def subject(self, pattern: bytes) -> bytes | None:
        """Return what this index must have for the pattern, None where another one answers it; NotAnswered where none does."""
        everything = is_everything(pattern, self.syntax, self.escape)
        if everything and EVERYTHING in self.answered:
            return b"" if self.part == EVERYTHING else None
        found = self._read(pattern)
        if found is None or everything:
            raise NotAnswered(f"no blind index answers this pattern over {self.owner}", hint=_ANSWERED[self.syntax])
        part, text = found
        key: Key = (part, 0 if part == "whole" else len(text))
        if key not in self.answered:
            raise NotAnswered(f"no blind index answers this pattern over {self.owner}", hint=self._missing([key]))
        return text.encode() if key == self.part else None

    def tag(self, pattern: bytes, search: Callable[[bytes], bytes]) -> bytes | None:
        """Return what the server compares: a tag, nothing where everything matches, None where another index answers."""
        subject = self.subject(pattern)
        return subject if subject is None or self.part == EVERYTHING else search(subject)

    def _read(self, pattern: bytes) -> tuple[Part, str] | None:
        if self.syntax == "prefix":
            return "left", pattern.decode()
        if self.syntax == "regex":
            return read_regex(pattern)
        return read_pattern(self._folded(pattern), "\\") if self.fold else read_pattern(pattern, self.escape)

    def _folded(self, pattern: bytes) -> bytes:
        """Return a pattern in lower case, escapes and all, as the server does it: with backslashes before."""
        text, escaped = [], False
        for character in pattern.decode():
            if character == self.escape and not escaped:
                text.append("\\")
                escaped = True
            else:
                text.append("\\\\" if character == "\\" and not escaped else character)
                escaped = False
        return self.characters.lower("".join(text).encode())

    def _missing(self, keys: Iterable[Key]) -> str:
        return missing(keys, self.over, self.column, self.owner, self.waiting)


_ANSWERED: dict[Syntax, str] = {
    "like": "An index can answer a value, a prefix ('abc%') or a suffix ('%abc'): select the rows by another column.",
    "prefix": "An index answers a prefix of some length, not an empty one.",
    "regex": "An index can answer a regular expression that is a value ('^abc$') or a prefix ('^abc').",
}


def missing(keys: Iterable[Key], over: str, column: str, owner: str, waiting: frozenset[str]) -> str:
    """Say which index would answer; ``waiting`` are the expressions of those that are there and answer nothing yet."""
    forms = [over if part == "whole" else f"{part}({over},{count or 'n'})" for part, count in keys]
    there = [shown_expression(form, column) for form in forms if form in waiting]
    if there:
        return await_index(" and ".join(there))
    return add_index(" or ".join(f"`{shown_expression(form, column)}`" for form in forms), owner)
