"""Names that PostgreSQL would choose for what a statement leaves unnamed (indexcmds.c, ChooseRelationName)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_LIMIT = 63


def chosen(table: str, columns: Sequence[str], label: str, taken: Collection[str]) -> str:
    """Return ``table_columns_label``, shortened as PostgreSQL does, with the first number that makes it free."""
    addition = ""
    for column in columns:
        addition += ("_" if addition else "") + column
        if len(addition.encode()) >= _LIMIT:
            break
    number = 0
    while True:
        name = _made(table, _clip(addition, _LIMIT), f"{label}{number or ''}")
        if name not in taken:
            return name
        number += 1


def numbered(names: Sequence[str]) -> list[str]:
    """Return the keys' names of an index, each once: ChooseIndexColumnNames numbers those that come again."""
    found: list[str] = []
    for name in names:
        free, number = name, 0
        while free in found:
            number += 1
            free = f"{_clip(name, _LIMIT - len(str(number)))}{number}"
        found.append(free)
    return found


def _made(first: str, second: str, label: str) -> str:
    """Return makeObjectName: the longer of the two parts gives way."""
    room = _LIMIT - len(label.encode()) - 1 - (1 if second else 0)
    one, other = len(first.encode()), len(second.encode())
    while one + other > room:
        if one > other:
            one -= 1
        else:
            other -= 1
    parts = [_clip(first, one), _clip(second, other)] if second else [_clip(first, one)]
    return "_".join([*parts, label])


def _clip(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
