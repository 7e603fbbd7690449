"""Databases of the policies: statements to any database must not rename or copy them.

Under another name nothing is protected: stored values would be shown as they are, and new ones stored in clear. ``ALTER DATABASE
clinic RENAME TO other`` and ``CREATE DATABASE copy TEMPLATE clinic`` are refused, also in ``DO`` and in texts that are given to
functions. Statements that carry nothing to another name pass (``DROP DATABASE``, ``ALTER DATABASE … SET``).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from phiproxy.errors import PhiproxyError, StatementRefused
from phiproxy.long_values import PIECE
from phiproxy.sql.text.parse import Node, char_position, first_token, messages, only, parse

Guard = Callable[[bytes], StatementRefused | None]
"""Takes a text of a client's, whatever its encoding, and returns why it is refused, or None."""

MAX_NAME = 63
_WORD = b"database"
_DEFAULT_TEMPLATE = "template1"
_STATEMENT = re.compile(r"\b(?:alter|create)\W+database\b")
_CODE = frozenset({"DoStmt", "CreateFunctionStmt"})
_WHY = "a database that a policy names keeps its name, and is no template for others: under another name nothing is protected"
_HINT = "Do it past the proxy, with the proxies stopped: first name the other database in a policy (`database:`) of theirs."
# Within quotes, where standard_conforming_strings is off; the server's setting is not known everywhere.
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def guard_of(databases: Iterable[str]) -> Guard:
    """Return the search for statements that rename or copy one of these databases."""
    return _Databases(databases).refusal


class _Databases:
    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_cut(name) for name in names)
        # As a search over bytes spells them: a character for each, in ASCII's lower case.
        self._spelled = frozenset(_folded(name.encode()) for name in self._names)

    def refusal(self, text: bytes) -> StatementRefused | None:
        if not _says_database(text) or not self._may_be_one(text.lower().decode("latin-1")):
            return None
        readings = [self._reading(text)]
        if b"\\" in text:
            unquoted = _ESCAPED.sub(lambda match: b"''" if match[1] == b"'" else b"xx", text)
            readings += [self._reading(unquoted)] if unquoted != text else []
        if True not in readings and any(reading is not None for reading in readings):
            return None
        position = None
        with suppress(PhiproxyError, IndexError):  # it may not be readable at all: then it is refused for what stands in it
            position = char_position(text, first_token(text, parse(text)[0]))
        return StatementRefused(_WHY, hint=_HINT, position=position)

    def _may_be_one(self, lowered: str) -> bool:
        """Tell whether a text has the words of such a statement, in any order."""
        if "database" not in lowered:
            return False
        creates = "create" in lowered
        named = 'u&"' in lowered or any(name in lowered for name in self._spelled)
        return (named and (creates or "rename" in lowered)) or (creates and _DEFAULT_TEMPLATE in self._names)

    def _reading(self, text: bytes) -> bool | None:
        """Tell whether one of the statements of a text is one; None where they cannot be read."""
        try:
            statements = parse(text)
            return any(self._is_one(s.kind, s.body) or any(map(self._text_is_one, _texts(s.kind, s.body))) for s in statements)
        except (PhiproxyError, RecursionError):
            return None

    def _is_one(self, kind: str, body: Node) -> bool:
        if kind == "RenameStmt":
            return body.get("renameType") == "OBJECT_DATABASE" and _cut(body["subname"]) in self._names
        if kind != "CreatedbStmt":
            return False
        options = [only(option)[1] for option in body.get("options", ())]
        given = [only(o["arg"])[1].get("sval", "") for o in options if o["defname"] == "template" and "arg" in o]
        return _cut(given[-1] if given else _DEFAULT_TEMPLATE) in self._names

    def _text_is_one(self, told: tuple[bool, str]) -> bool:
        """Tell whether a text inside a statement may be run as such a statement: code by its words, others as they begin."""
        code, text = told
        lowered = _folded(text.encode())
        return self._may_be_one(lowered) and (code or _STATEMENT.search(lowered) is not None)


def _says_database(text: bytes) -> bool:
    """Tell whether the word is in a text, in any case; of a long one piece by piece, so that others have their turn."""
    return any(_WORD in text[at : at + PIECE + len(_WORD)].lower() for at in range(0, len(text), PIECE))


def _texts(kind: str, body: Node) -> Iterator[tuple[bool, str]]:
    """Yield (is code, text) of what the server may run: bodies, and texts that functions and EXECUTE are given."""
    if kind in _CODE:
        for message in messages(body):
            for value in message.values():
                if isinstance(value, str):
                    yield True, value
        return
    for message in messages(body):
        given = message.get("args", ()) if "funcname" in message else message.get("params", ())
        for constant in messages(list(given)) if given else ():
            if isinstance(constant.get("sval"), dict):
                yield False, str(constant["sval"].get("sval", ""))


def _cut(name: str) -> str:
    """Return a name as the server reads it: long ones are cut."""
    return name.encode()[:MAX_NAME].decode("utf-8", "ignore")


def _folded(text: bytes) -> str:
    return text.lower().decode("latin-1")
