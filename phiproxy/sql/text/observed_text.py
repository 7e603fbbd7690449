"""The text of a statement for people, without values: what statements have in common that differ in constants only.

``SELECT id FROM patients WHERE ssn IN ('1', '2') -- of Ada Smith`` becomes ``SELECT id FROM patients WHERE ssn IN (?, …)``. Every
constant that the lexer knows becomes ``?``, and comments go, so no value of the text is left: only words and identifiers are.
"""

import re

from pglast.parser import ParseError

from phiproxy.errors import StatementRefused
from phiproxy.sql.text.parse import tokens

# The lexer's names of constants: strings of all kinds, dollar-quoted ones among them, numbers, bits.
_CONSTANTS = frozenset({"SCONST", "USCONST", "XCONST", "BCONST", "ICONST", "FCONST"})
_BLANKS = re.compile(r"\s+")
_LIST = re.compile(r"\?(?: ?, ?\?)+")
_ITEM = r"(?:\?(?:, …)?|DEFAULT|NULL)"
_ROWS = re.compile(rf"(\({_ITEM}(?: ?, ?{_ITEM})*\))(?: ?, ?\({_ITEM}(?: ?, ?{_ITEM})*\))+", re.IGNORECASE)
# A longer one is cut: it is told apart from others by its beginning.
MOST = 2000


def normalised(text: bytes) -> str | None:
    """Return a text without its constants and comments, in one line; None for one that the lexer does not read."""
    try:
        listed = tokens(text)
    except (ParseError, StatementRefused):
        return None
    parts: list[str] = []
    end = 0
    for token in listed:
        if parts and token.start > end:
            parts.append(" ")
        word = "?" if token.name in _CONSTANTS else text[token.start : token.end].decode("utf-8", "replace")
        parts.append(_BLANKS.sub(" ", word))
        end = token.end
    joined = "".join(parts).rstrip("; ")
    shorter = _ROWS.sub(r"\1, …", _LIST.sub("?, …", joined))
    return shorter if len(shorter) <= MOST else shorter[: MOST - 1] + "…"
