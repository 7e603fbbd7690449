"""A statement as a log may hold it: names and keywords, never a value."""

import re

from pglast.parser import ParseError, scan

from phiproxy.errors import StatementRefused
from phiproxy.sql.text.parse import decode_text

# What is longer is cut, and of what is longer still only the beginning is read.
LONGEST = 1000
_READ = 16 * 1024

_VALUES = frozenset({"SCONST", "USCONST", "BCONST", "XCONST", "ICONST", "FCONST"})
_COMMENTS = frozenset({"SQL_COMMENT", "C_COMMENT"})
# What somebody quotes like this may be a value in the wrong quotes.
_NAME = re.compile(r'"[A-Za-z_][A-Za-z_ ]*"')
_LIST = re.compile(r"\?(?:, (?:- )?\?)+")


def without_values(text: bytes) -> str | None:
    """Return a text without its constants and comments, at most ``LONGEST`` characters; None where it is not read so far.

    SELECT notes FROM patients WHERE ssn = '123-45-6789' -- Ada → SELECT notes FROM patients WHERE ssn = ?
    SET app.tenant = smith → SET app.tenant = ?
    """
    if len(text) > _READ:
        return None
    try:
        decoded = decode_text(text)
        tokens = scan(decoded)
    except (ParseError, StatementRefused, ValueError):
        return None
    shown: list[str] = []
    # Whether the statement is a SET, and its value has begun, which may be written as a name.
    behind, begins, setting, given = -2, True, False, False
    for token in tokens:
        if token.name in _COMMENTS:
            continue
        word = decoded[token.start : token.end + 1]
        if shown and token.start > behind + 1:
            shown.append(" ")
        behind = token.end
        setting = word.upper() == "SET" if begins else setting
        begins = word == ";"
        quoted = word[:1] == '"' or word[:2].upper() == "U&"
        hidden = token.name in _VALUES or (quoted and not _NAME.fullmatch(word)) or (given and word not in (",", ";"))
        given = not begins and (given or (setting and word.upper() in ("TO", "=")))
        shown.append("?" if hidden else word)
    return _LIST.sub("?, …", "".join(shown))[:LONGEST]
