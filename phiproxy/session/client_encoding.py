"""The client's encoding: its texts, names and values in UTF-8 for everything in here, and back for both peers (spec/sql 8.1).

The server converts what it gets by the client_encoding that holds when the message comes, and tells of a change before the next
ReadyForQuery; so what may hold a protected value waits for that, or is refused where it cannot.
"""

import re
from collections.abc import Sequence

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused, UntranslatableCharacter
from phiproxy.plan.statement_plan import ScriptPart, StatementPlan
from phiproxy.session.pipeline import Later
from phiproxy.session.state import State
from phiproxy.wire.encodings import UTF8, Encoding, of_binary


def readable(session: State, text: bytes) -> bytes:
    """Return what the client sent in UTF-8, as it came where its encoding is not known here."""
    return text if session.text.encoding is None else session.text.encoding.to_utf8(text)


def writable(session: State, text: bytes) -> bytes:
    """Return a text for the server in the encoding that it expects."""
    return text if session.text.encoding is None else session.text.encoding.from_utf8(text)


def note(session: State, effects: Effects) -> None:
    """Note what was sent and may change the client's encoding or how its literals are read, or take back a change."""
    if effects.encoding:
        session.pending.encoding_set = session.groups.number
    if effects.encoding or (effects.transaction and session.pending.encoding_set is not None):
        session.pending.encoding = session.groups.number


def await_encoding(session: State) -> None:
    """Go on when the client's encoding is known; Later while an answer may tell of another."""
    changed = session.pending.encoding
    if changed is not None and session.groups.answered < changed < session.groups.number and session.pipeline.front() is not None:
        raise Later


def check(session: State, text: bytes = b"", *, touches: bool) -> None:
    """Refuse what touches something protected in an encoding that is not known here, or behind what changes it."""
    if session.text.encoding is None and touches:
        raise StatementRefused(
            "values of protected columns cannot be converted from and to this client_encoding",
            hint="SET client_encoding TO 'UTF8'.",
        )
    if session.pending.encoding is None:
        return
    # What a text with a backslash says may hang on standard_conforming_strings.
    if touches or not text.isascii() or (b"\\" in text and not session.planner.screen.passes(text)):
        raise _behind_change()


# Characters that escapes stand for: of U&'…', of E'…', where bytes are those of the database's encoding, and of JSON.
_OF_UNICODE = re.compile(rb"\\(?:\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4}))|(\buescape\b)", re.IGNORECASE)
_OF_STRINGS = re.compile(rb"\\U([0-9A-Fa-f]{8})|(\\x[89A-Fa-f][0-9A-Fa-f]|\\[23][0-7][0-7])")
_OF_JSON = re.compile(rb"\\u([0-9A-Fa-f]{4})")
_UNICODE, _STRING, _JSON = re.compile(rb"\bU&['\"]", re.IGNORECASE), re.compile(rb"\bE'", re.IGNORECASE), re.compile(rb'\s*[\[{"]')


def check_escapes(session: State, text: bytes) -> None:
    r"""Refuse a statement of which values are sealed, where an escape may stand for no character of the database's.

    In a database in LATIN1: ``SET notes = E'\u0142'``
    """
    database = session.text.database
    if database is UTF8 or (b"\\" not in text and not _UNICODE.search(text)):
        return
    kinds = [_OF_JSON, *([_OF_STRINGS] if _STRING.search(text) else []), *([_OF_UNICODE] if _UNICODE.search(text) else [])]
    found = min((at for kind in kinds if (at := _unwritable(kind, text, database)) is not None), default=None)
    if found is not None:
        refused = _no_escape(database)
        refused.position = len(text[:found].decode("utf-8", "replace")) + 1
        raise refused


def _unwritable(escapes: re.Pattern[bytes], text: bytes, database: Encoding) -> int | None:
    """Return where the first escape is that stands for no character of an encoding, or may."""
    for escape in escapes.finditer(text):
        digits = next((one for one in escape.groups()[: escapes.groups if escapes is _OF_JSON else -1] if one is not None), None)
        try:
            if digits is None or int(digits, 16) > 0x10FFFF:
                return escape.start()
            database.from_utf8(chr(int(digits, 16)).encode("utf-8"))
        except (UnicodeEncodeError, UntranslatableCharacter):  # half of a pair, or no such character
            return escape.start()
    return None


def _no_escape(database: Encoding) -> StatementRefused:
    return StatementRefused(
        f"an escape may stand for a character that the database's encoding, {database.name}, does not have",
        hint="Write the character itself.",
    )


def check_string(session: State, text: bytes, parts: Sequence[ScriptPart]) -> None:
    """Refuse what ``check_parts`` and ``check_escapes`` refuse of the string of a simple Query."""
    check_parts(parts, was_set=session.pending.encoding_set is not None)
    if any(part.touches for part in parts):
        check_escapes(session, text)


def check_parts(parts: Sequence[ScriptPart], *, was_set: bool) -> None:
    """Refuse what touches something protected behind a change of the encoding in the same string."""
    changed = False
    for part in parts:
        if changed and part.touches:
            raise _behind_change()
        was_set = was_set or part.effects.encoding
        changed = changed or part.effects.encoding or (part.effects.transaction and was_set)


def _behind_change() -> StatementRefused:
    return StatementRefused(
        "a statement before this one, in the same string or pipeline, may change client_encoding or standard_conforming_strings",
        hint="Send this one after the reply to the one before.",
    )


def parameters(
    encoding: Encoding | None, plan: StatementPlan, values: Sequence[bytes | None], formats: Sequence[int]
) -> list[bytes | None]:
    """Return the client's parameters with those for protected columns in UTF-8."""
    converted = list(values)
    if encoding is None or encoding is UTF8:
        return converted
    for number in plan.read_inputs():
        value = converted[number]
        if value is not None and formats[number]:
            converted[number] = of_binary(value, plan.sent_as(number), encoding.to_utf8)
        elif value is not None:
            converted[number] = encoding.to_utf8(value)
        database = encoding.of_database
        is_json = value is not None and database is not UTF8 and _JSON.match(value.removeprefix(b"\1"))
        if value is not None and is_json and _unwritable(_OF_JSON, value, database) is not None:
            raise _no_escape(database)
    return converted
