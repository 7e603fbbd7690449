"""What a record may say of a statement: its text without its constants, parameters and comments, spelled one way.

Two texts that differ in constants, case of keywords and white space only have the same.
"""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from pglast.keywords import RESERVED_KEYWORDS
from pglast.parser import ParseError

from phiproxy.errors import StatementRefused
from phiproxy.sql.text.parse import Token, tokens
from phiproxy.sql.text.shape import gaps_at_beginning

# Of a longer text only the beginning is looked at.
LONG_TEXT = 16 * 1024
MAX_SHAPE = 2000
_VALUES = frozenset({"SCONST", "USCONST", "XCONST", "BCONST", "ICONST", "FCONST", "PARAM"})
_NAMES = frozenset({"IDENT", "UIDENT"})
_NO_SPACE_BEFORE = frozenset({",", ")", ";", ".", "]", "::", "["})
# Other keywords may be names too.
_UPPER = RESERVED_KEYWORDS | {
    "begin", "between", "by", "commit", "copy", "declare", "delete", "exists", "execute", "explain", "fetch", "insert", "join",
    "key", "left", "is", "like", "ilike", "inner", "merge", "over", "partition", "prepare", "right", "rollback", "set", "truncate",
    "update", "values", "outer", "cross", "full",
}  # fmt: skip
_LIST = re.compile(r"\?(?:, \?)+")
_ROWS = re.compile(r"(\([^()]*\))(?:, \1)+")
_NO_SPACE_BEHIND = frozenset({"(", ".", "[", "::"})


def visible_shape(text: bytes, names: Collection[str] | None = None, functions: Collection[str] = ()) -> str:
    """Return a statement without anything that is a value; empty where the lexer does not read it.

    ``SELECT ssn FROM patients WHERE mrn IN ('4711', '4712') -- of Monday`` is ``SELECT ssn FROM patients WHERE mrn IN (?, …)``, and
    ``insert into patients values ($1, '078-05-1120'), ($2, NULL)`` is ``INSERT INTO patients VALUES (?, …), (?, NULL)``.

    With ``names``, any other name is left out too, unless it is one of ``functions`` and called, or qualifies what is shown: in a
    statement that nobody has understood it may be a value that was not quoted, or quoted as a name (``= jane.doe@example.org``).
    """
    words = _words(_shortened(text), names, functions)
    if words is None:
        return ""
    shape = _ROWS.sub(r"\1, …", _LIST.sub("?, …", _joined(words)))
    return shape if len(shape) <= MAX_SHAPE else shape[: MAX_SHAPE - 1] + "…"


def _shortened(text: bytes) -> bytes:
    return text if len(text) <= LONG_TEXT else b"1".join(gaps_at_beginning(text[:LONG_TEXT]))


def _words(text: bytes, names: Collection[str] | None, functions: Collection[str]) -> list[tuple[str, bool]] | None:
    """Return the words of a text, and of each whether it is a name."""
    try:
        scanned = tokens(text)
    except (ParseError, StatementRefused):
        return None
    words: list[tuple[str, bool]] = []
    for token in reversed(scanned):  # whether one is shown depends on what it qualifies
        word, is_name = _word(text, token), token.name in _NAMES
        if is_name and names is not None and not _is_known(word, [before for before, _ in words[:-3:-1]], names, functions):
            word = "?"
        words.append((word, is_name))
    return words[::-1]


def _word(text: bytes, token: Token) -> str:
    if token.name in _VALUES:
        return "?"
    spelled = text[token.start : token.end].decode("utf-8", "replace")
    if token.name in _NAMES:
        return spelled if '"' in spelled else spelled.lower()
    return spelled.upper() if spelled.lower() in _UPPER else spelled.lower()


def _is_known(word: str, behind: Sequence[str], names: Collection[str], functions: Collection[str]) -> bool:
    name = word[1:-1].replace('""', '"') if word.startswith('"') else word
    if name in names or name.lower() in names:
        return True
    match behind:
        case ["(", *_]:
            return name in functions
        case [".", qualified]:
            return qualified != "?"
    return False


def _joined(words: Sequence[tuple[str, bool]]) -> str:
    parts = [word for word, _ in words[:1]]
    for (before, is_name), (word, _) in pairwise(words):
        called = is_name and word == "("
        if not (word in _NO_SPACE_BEFORE or before in _NO_SPACE_BEHIND or called):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)
