"""Does a part of a DDL statement name a protected column?"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from phiproxy.sql.parse import Node, messages, strings


def mentioned(tree: Any, names: Collection[str]) -> Node | None:
    """Return the first reference to one of these columns, or None; whole rows count as one."""
    for message in messages(tree):
        fields = strings(message.get("fields")) if isinstance(message.get("fields"), list) else []
        if fields and (fields[-1] in names or fields[-1] == "*") and names:
            return message
    return None
