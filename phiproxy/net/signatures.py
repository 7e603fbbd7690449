"""Read which types, casts, functions and operators a database has (``policy.signatures``).

Those of the server itself are read once for each version: there are thousands, and they do not change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from phiproxy.policy.ownsignatures import OWN, SERVER, rows
from phiproxy.policy.signatures import Rows, Signatures

_of_versions: dict[int, Rows] = {}


async def read_signatures(ask: Callable[[str], Awaitable[list[tuple[Any, ...]]]], version: int) -> tuple[Signatures, str]:
    """Return the signatures, and a text that is another one where those of the database's own are."""
    if version not in _of_versions:
        ((text,),) = await ask(SERVER)
        _of_versions[version] = rows(text)
    ((own,),) = await ask(OWN)
    return Signatures((_of_versions[version], rows(own))), own
