"""Paths of fields in documents: the part of SQL/JSON's path language that names values by where they stand.

``$`` is the document, ``.key`` and ``."any key"`` a member of an object, ``[*]`` every element of an array.
"""

import json
import re
from typing import Final

ELEMENTS: Final = None
"""The step of ``[*]``."""
Step = str | None
Path = tuple[Step, ...]
"""The steps from the document to a value: keys, and ``ELEMENTS`` for every element of an array."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEP = re.compile(r'\.(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|\.(?P<quoted>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<elements>\[\*\])')


def parse_path(text: str) -> Path:
    """Return the steps of a path; ValueError with a text for the operator where it is none.

    ``$.name.family`` → ("name", "family"); ``$.history[*]."a note"`` → ("history", ELEMENTS, "a note").
    """
    if text[:1] != "$":
        raise ValueError(f"{text!r} is not a path: it begins with $, as in $.name.family")
    steps: list[Step] = []
    position = 1
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            shown = text[position:]
            raise ValueError(f'{text!r} is not a path: {shown!r} is none of .key, ."any key" and [*]')
        steps.append(_step(text, match))
        position = match.end()
    if not steps:
        raise ValueError("$ is the whole document: a field is a value in it, as in $.name.family")
    return tuple(steps)


def _step(text: str, match: re.Match[str]) -> Step:
    if match["elements"] is not None:
        return ELEMENTS
    if match["plain"] is not None:
        return match["plain"]
    try:
        key = json.loads(match["quoted"])
        key.encode()
    except ValueError:
        raise ValueError(f"{text!r} is not a path: {match['quoted']} is not a string of JSON") from None
    if "\0" in key:
        raise ValueError(f"{text!r} is not a path: no key of jsonb holds \\u0000")
    assert isinstance(key, str)
    return key


def spell_path(path: Path) -> str:
    """Return a path as phiproxy spells it: what is bound into stored values, and never changes."""
    return "$" + "".join("[*]" if step is None else _spell_key(step) for step in path)


def _spell_key(key: str) -> str:
    return f".{key}" if _PLAIN.fullmatch(key) else "." + json.dumps(key, ensure_ascii=False)
