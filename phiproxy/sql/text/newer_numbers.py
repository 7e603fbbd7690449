"""Numbers as only newer servers read them: hexadecimal, octal and binary ones, and digits with underscores between them."""

import re
from typing import Final

from phiproxy.errors import SyntaxRefused
from phiproxy.long_values import SMALL_PIECE
from phiproxy.sql.text.long_constants import without_long_constants
from phiproxy.sql.text.parse import Scan, char_position

_SINCE: Final = 160000
_NEWER = re.compile(rb"0[xXoObB]|[0-9]_")
_NUMBERS = frozenset({"ICONST", "FCONST"})


def _may_have_one(text: bytes) -> bool:
    """Tell whether a text may have such a number outside of long constants; in pieces, so that other threads have their turn."""
    text = without_long_constants(text)
    return any(_NEWER.search(text, at, at + SMALL_PIECE + 1) is not None for at in range(0, len(text), SMALL_PIECE))


def check_numbers(scan: Scan, server_version: int) -> None:
    """Raise SyntaxRefused for such a number where the server does not know it, whose words these are (``0x1F``, ``1_000``).

    Version 14 takes the rest of it for the name of a column: it is refused there too.
    """
    if server_version >= _SINCE or not _may_have_one(scan.text):
        return
    for token in scan.tokens:
        if token.name in _NUMBERS and _NEWER.search(scan.text, token.start, token.end) is not None:
            raise SyntaxRefused("trailing junk after numeric literal", position=char_position(scan.text, token.start))
