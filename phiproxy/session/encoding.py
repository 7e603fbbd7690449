"""The client's encoding: its texts, names and values in UTF-8 for everything in here, and back for both sides (sql.md section 8).

The server converts what it gets by the client_encoding that holds when the message comes, and tells of a change before the next
ReadyForQuery; so what may hold a protected value waits for that, or is refused where it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import StatementRefused
from phiproxy.plan.statement import Effects, ScriptPart, StatementPlan
from phiproxy.session.pipeline import Later
from phiproxy.session.state import State
from phiproxy.wire.encodings import UTF8, of_binary


def readable(session: State, text: bytes) -> bytes:
    """Return what the client sent in UTF-8, as it came where its encoding is not known here."""
    return text if session.encoding is None else session.encoding.to_utf8(text)


def writable(session: State, text: bytes) -> bytes:
    """Return a text for the server in the encoding that it expects."""
    return text if session.encoding is None else session.encoding.from_utf8(text)


def note(session: State, effects: Effects) -> None:
    """Note what was sent and may change the client's encoding or how its literals are read, or take back a change."""
    if effects.encoding:
        session.encoding_set = session.names.group
    if effects.encoding or (effects.transaction and session.encoding_set is not None):
        session.encoding_changed = session.names.group


def settle(session: State) -> None:
    """Go on when the client's encoding is known; Later while an answer may tell of another."""
    changed = session.encoding_changed
    if changed is not None and session.names.answered < changed < session.names.group and session.pipeline.front() is not None:
        raise Later


def check(session: State, text: bytes = b"", *, touches: bool) -> None:
    """Refuse what touches something protected in an encoding that is not known here, or behind what changes it."""
    if session.encoding is None and touches:
        raise StatementRefused(
            "values of protected columns cannot be converted from and to this client_encoding",
            hint="SET client_encoding TO 'UTF8'.",
        )
    if session.encoding_changed is not None and (touches or not text.isascii() or _escapes(session, text)):
        raise _behind_change()


def _escapes(session: State, text: bytes) -> bool:
    """Tell whether what a text says may hang on standard_conforming_strings."""
    return b"\\" in text and not session.planner.passes(text)


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


def parameters(session: State, plan: StatementPlan, values: Sequence[bytes | None], formats: Sequence[int]) -> list[bytes | None]:
    """Return the client's parameters with those for protected columns in UTF-8."""
    encoding, found = session.encoding, list(values)
    if encoding is None or encoding is UTF8:
        return found
    for number in plan.read_inputs():
        value = found[number]
        if value is not None and formats[number]:
            found[number] = of_binary(value, plan.sent_as(number), encoding.to_utf8)
        elif value is not None:
            found[number] = encoding.to_utf8(value)
    return found
