"""In which order clients see the columns of a table whose plain columns were replaced by sealed ones behind all others.

Their order is in the comment of the sealed column's guard, which a dump takes along: ``phiproxy: column 2 of ["id","ssn"]``.
Columns that were never replaced keep their order among themselves; a replaced one stands behind those that preceded it and before
those that followed it. Where columns were renamed or dropped so that this is not sure, the order is not guessed.

Behind it stands the collation that the plain column had, where that was not its type's: ``…, COLLATE pg_catalog."C"``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import is_hidden
from phiproxy.policy.plaintext_guards import guard_name

_COMMENT: Final = re.compile(r"phiproxy: column (\d+) of (\[.*\])(?:, COLLATE (.+))?", re.DOTALL)

_NAME: Final = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
_COLLATION: Final = re.compile(rf"{_NAME}\.{_NAME}")
"""Nothing else: it is run as SQL, and a comment may be anything."""


def order_comment(name: str, columns: Sequence[str], collation: str = "") -> str:
    """Return the comment of the guard of one of these columns, which are in the order in which clients see them."""
    place = f"phiproxy: column {list(columns).index(name) + 1} of {json.dumps(list(columns), ensure_ascii=False)}"
    return f"{place}, COLLATE {collation}" if collation else place


def collation_of(comment: str | None) -> str:
    """Return the collation, as SQL, that the comment of a guard says that the plain column had; empty where it was its type's."""
    match = _COMMENT.fullmatch(comment or "")
    return match[3] if match is not None and _COLLATION.fullmatch(match[3] or "") else ""


def comment_on_guard(table: str, name: str, columns: Sequence[str], collation: str = "") -> str:
    """Return the statement that keeps a column's place and collation; ``table`` is spelled as SQL."""
    text = order_comment(name, columns, collation).replace("'", "''")
    return f"COMMENT ON CONSTRAINT {quote_ident(guard_name(name))} ON {table} IS '{text}'"


def logical_order(names: Sequence[str], comments: Mapping[str, str]) -> list[str] | None:
    """Return names of columns, given in their physical order, as clients see them, those that are hidden last; None: not known.

    ``comments`` are those of guards, by their columns: ``logical_order(["id", "city", "ssn"], {"ssn": 'phiproxy: column 2 of
    ["id","ssn","city"]'})`` gives ``["id", "ssn", "city"]``.
    """
    places = {name: place for name in names if (place := _place(comments.get(name, ""))) is not None}
    order = [name for name in names if name not in places and not is_hidden(name)]
    for name, (index, before) in sorted(places.items(), key=lambda entry: entry[1][0]):
        # Of those that were replaced too the ones before this are in their place already.
        ahead, behind = ([n for n in part if n in order or n not in places] for part in (before[:index], before[index + 1 :]))
        at = _between(order, ahead, behind)
        if at is None:
            return None
        order.insert(at, name)
    return [*order, *(name for name in names if is_hidden(name))]


def _between(order: Sequence[str], ahead: Sequence[str], behind: Sequence[str]) -> int | None:
    """Return where a column goes that stood between two lists of others; None where that is not sure.

    What is in neither list was renamed, or was added behind all of them.
    """
    low = max((i for i, name in enumerate(order) if name in ahead), default=-1) + 1
    high = next((i for i, name in enumerate(order) if name in behind), len(order))
    if low > high:
        return None
    if low == high or not ahead or (low and order[low - 1] == ahead[-1]):
        return low
    return high if high < len(order) and order[high] == behind[0] else None


def _place(comment: str) -> tuple[int, list[str]] | None:
    match = _COMMENT.fullmatch(comment)
    if match is None:
        return None
    try:
        names = json.loads(match[2])
    except ValueError:
        return None
    index = int(match[1]) - 1
    return (index, names) if 0 <= index < len(names) and all(isinstance(name, str) for name in names) else None
