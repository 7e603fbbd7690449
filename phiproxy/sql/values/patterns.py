"""Patterns (manual 9.7) as what an index can answer: a whole value, its beginning, or its end.

``left(n, 3) = 'smi'`` is true for exactly the values for which ``n LIKE 'smi%'`` is, so nothing has to be filtered afterwards. No
index answers any other pattern.
"""

import re
from collections.abc import Callable, Iterable
from typing import Literal

from phiproxy.errors import NoIndexAnswers, ValueRefused
from phiproxy.frozen import dataclass
from phiproxy.index.characters import ASCII, Characters
from phiproxy.policy.identifiers import shown_expression
from phiproxy.sql.values.index_spelling import add_index, await_index
from phiproxy.wire.bytea_and_text import check_text

Part = Literal["whole", "left", "right", "all"]
Key = tuple[Part, int]
Syntax = Literal["like", "prefix", "regex"]
# What a pattern asks for that every value matches: nothing.
EVERYTHING: Key = ("all", 0)
# A regular expression that says no more than how a value begins, or what it is: characters that mean themselves, there or behind a
# backslash. In any case: other rules than those of lower(); beyond this there are none that an index could answer.
_REGEX = re.compile(r"\^((?:[\w ,;:@#%&/=<>~!\"'-]|\\[^\w])*)(\$?)")


class NotAnswered(ValueRefused, sqlstate="0A000"):
    """No blind index answers the value of a pattern's or range's parameter (0A000); a literal is refused when it is analysed."""

    anchor = NoIndexAnswers.anchor


def read_pattern(pattern: bytes, escape: str) -> tuple[Part, str] | None:
    """Return which part of a value must equal which text, or None for another pattern. ``escape`` is empty where there is none."""
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
    """Return the same for a regular expression."""
    match = _REGEX.fullmatch(pattern.decode())
    return None if match is None else ("whole" if match[2] else "left", re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL))


def is_everything(pattern: bytes, syntax: Syntax, escape: str) -> bool:
    """Tell whether every value matches a pattern."""
    if syntax == "like":
        return bool(pattern) and not pattern.strip(b"%") and escape != "%"
    return pattern in ((b"",) if syntax == "prefix" else (b"", b"^"))


@dataclass(frozen=True, slots=True)
class Like:
    """One index that may answer a pattern, since it holds tags of the ``part`` of a value that the pattern is about.

    ``answered`` are the parts of all indexes that may answer. An entry with the part ``EVERYTHING`` is no index: it answers
    patterns that every value matches. ``over`` is the matched expression in phiproxy's spelling, ``column`` the name of the column
    in it, and ``owner`` the column with its table. ``fold``: upper and lower case are equal, by the database's ``characters``.
    ``waiting``: see ``missing``.
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
        """Return the text whose tag this index must have; None where another index answers. NotAnswered where none does."""
        everything = is_everything(pattern, self.syntax, self.escape)
        if everything and EVERYTHING in self.answered:
            return b"" if self.part == EVERYTHING else None
        reading = self._read(pattern)
        if reading is None or everything:
            raise NotAnswered(f"no blind index answers this pattern over {self.owner}", hint=_ANSWERED[self.syntax])
        part, text = reading
        key: Key = (part, 0 if part == "whole" else len(text))
        if key not in self.answered:
            hint = missing([key], self.over, self.column, self.owner, self.waiting)
            raise NotAnswered(f"no blind index answers this pattern over {self.owner}", hint=hint)
        return text.encode() if key == self.part else None

    def tag(self, pattern: bytes, search: Callable[[bytes], bytes]) -> bytes | None:
        """Return what the server compares with: a tag, nothing where everything matches, None where another index answers."""
        subject = self.subject(check_text(pattern))
        return subject if subject is None or self.part == EVERYTHING else search(subject)

    def _read(self, pattern: bytes) -> tuple[Part, str] | None:
        if self.syntax == "prefix":
            return "left", pattern.decode()
        if self.syntax == "regex":
            return read_regex(pattern)
        return read_pattern(self._folded(pattern), "\\") if self.fold else read_pattern(pattern, self.escape)

    def _folded(self, pattern: bytes) -> bytes:
        """Return a pattern in lower case as the server folds it, with backslashes as the escape character."""
        text, escaped = [], False
        for character in pattern.decode():
            if character == self.escape and not escaped:
                text.append("\\")
                escaped = True
            else:
                text.append("\\\\" if character == "\\" and not escaped else character)
                escaped = False
        return self.characters.lower("".join(text).encode())


_ANSWERED: dict[Syntax, str] = {
    "like": "An index can answer a value, a prefix ('abc%') or a suffix ('%abc'): select the rows by another column.",
    "prefix": "An index answers a prefix of some length, not an empty one.",
    "regex": "An index can answer a regular expression that is a value ('^abc$') or a prefix ('^abc').",
}


def missing(keys: Iterable[Key], over: str, column: str, owner: str, waiting: frozenset[str]) -> str:
    """Return the hint that names the indexes that would answer; ``waiting`` are expressions of indexes that answer nothing yet."""
    forms = [over if part == "whole" else f"{part}({over},{count or 'n'})" for part, count in keys]
    there = [shown_expression(form, column) for form in forms if form in waiting]
    if there:
        return await_index(" and ".join(there))
    return add_index(" or ".join(f"`{shown_expression(form, column)}`" for form in forms), owner)
