"""What a rule shows of a column: it as it is, nothing of it (``deny``), or a mask from a closed list. Knows no types, no roles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

OPEN_KIND: Final = "open"
DENY_KIND: Final = "deny"
# From what shows least to what shows most. Those that show characters are compared by how many.
_KINDS: Final = ("deny", "null", "fixed", "pseudonym", "age90", "year", "month", "zip3", "email", "characters", "open")
_COUNTED: Final = frozenset({"first", "last", "partial"})
_BARE: Final = frozenset(_KINDS) - {"fixed", "characters"}
_FIXED = re.compile(r"fixed\((.*)\)", re.DOTALL)
_FIRST_OR_LAST = re.compile(r"(first|last)\(\s*([0-9]{1,4})\s*\)")
_PARTIAL = re.compile(r"partial\(\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*\)")

USAGE: Final = (
    "open, deny, null, fixed(text), first(n), last(n), partial(left, right), year, month, age90, zip3, email or pseudonym"
)


@dataclass(frozen=True, slots=True)
class Show:
    """One of the closed list. ``left`` and ``right`` are how many characters it leaves there, ``text`` is that of ``fixed``."""

    kind: str
    text: str = ""
    left: int = 0
    right: int = 0

    @property
    def restriction(self) -> tuple[int, int]:
        """What shows less has a smaller one."""
        kind = "characters" if self.kind in _COUNTED else self.kind
        return _KINDS.index(kind), self.left + self.right

    @property
    def shows_all(self) -> bool:
        """Tell whether values are shown as they are."""
        return self.kind == OPEN_KIND

    @property
    def denies(self) -> bool:
        """Tell whether the column may not be read at all."""
        return self.kind == DENY_KIND

    @property
    def needs_value(self) -> bool:
        """Tell whether what is shown depends on the value, so that it must be opened."""
        return self.kind not in ("null", "fixed")

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"fixed({self.text})"
        if self.kind == "partial":
            return f"partial({self.left}, {self.right})"
        return f"{self.kind}({self.left + self.right})" if self.kind in _COUNTED else self.kind


OPEN: Final = Show(OPEN_KIND)
DENY: Final = Show(DENY_KIND)
NULL: Final = Show("null")
IN_PART: Final = Show("in part")
"""No rule says it: what comes of rules for fields of a document, whose other fields are shown as they are."""


def read_show(text: str) -> Show:
    """Read what a policy says: ``last(4)`` -> ``Show("last", right=4)``; ValueError for anything that is not in the list."""
    spelled = text.strip()
    if spelled in _BARE:
        return Show(spelled)
    if (fixed := _FIXED.fullmatch(spelled)) is not None:
        return Show("fixed", fixed[1])
    if (one_side := _FIRST_OR_LAST.fullmatch(spelled)) is not None:
        count = int(one_side[2])
        shown = Show("first", left=count) if one_side[1] == "first" else Show("last", right=count)
    elif (both := _PARTIAL.fullmatch(spelled)) is not None:
        shown = Show("partial", left=int(both[1]), right=int(both[2]))
    else:
        raise ValueError(f"{text!r} is none of {USAGE}")
    if not shown.left + shown.right:
        raise ValueError(f"{text!r} shows no character: write fixed(***) or null")
    return shown
