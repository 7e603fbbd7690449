"""Patterns of LIKE (manual 9.7.1) as what an index can have: a whole value, or what it begins or ends with.

``left(n, 3) = 'smi'`` is true of exactly the values of which ``n LIKE 'smi%'`` is, so nothing is filtered afterwards; of every
other pattern it is said that no index answers it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from phiproxy.errors import ValueRefused
from phiproxy.index.characters import ASCII, Characters
from phiproxy.policy.names import shown_expression

Part = Literal["whole", "left", "right"]
Key = tuple[Part, int]


class NotAnswered(ValueRefused):
    """No blind index answers a pattern (0A000)."""

    sqlstate = "0A000"


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


@dataclass(frozen=True, slots=True)
class Like:
    """One index that may answer a pattern: it has the ``part`` of a value. ``answered`` is what all that may do.

    ``over`` is the expression whose pattern it is, in phiproxy's own spelling, ``column`` the name of the column in it and
    ``owner`` the column in full; ``fold``: in any case, by the ``characters`` of the database.
    """

    part: Key
    answered: frozenset[Key]
    fold: bool
    escape: str
    over: str
    column: str
    owner: str
    characters: Characters = ASCII

    def subject(self, pattern: bytes) -> bytes | None:
        """Return what this index must have for the pattern, None where another one answers it; NotAnswered where none does."""
        found = read_pattern(self._folded(pattern), "\\") if self.fold else read_pattern(pattern, self.escape)
        if found is None:
            raise NotAnswered(
                f"no blind index answers this pattern over {self.owner}",
                hint="An index can answer a value, a prefix ('abc%') or a suffix ('%abc'): select the rows by another column.",
            )
        part, text = found
        key: Key = (part, 0 if part == "whole" else len(text))
        if key not in self.answered:
            raise NotAnswered(f"no blind index answers this pattern over {self.owner}", hint=self._missing([key]))
        return text.encode() if key == self.part else None

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
        return missing(keys, self.over, self.column, self.owner)


def missing(keys: Iterable[Key], over: str, column: str, owner: str) -> str:
    """Say which index would answer."""
    forms = [over if part == "whole" else f"{part}({over},{count or 'n'})" for part, count in keys]
    shown = " or ".join(f"`{shown_expression(form, column)}`" for form in forms)
    return f"Add {shown} to the indexes of {owner} in the policy, then run phiproxy keys init."
