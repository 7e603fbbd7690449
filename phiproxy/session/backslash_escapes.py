"""Statements of a session that has ``standard_conforming_strings`` off: read as the server reads them, or refused.

The server tells of the setting before each ReadyForQuery, as of client_encoding: ``client_encoding`` says what waits for that.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from phiproxy.errors import StatementFailed, StatementRefused
from phiproxy.plan.statement_plan import map_position
from phiproxy.session.state import State

_HINT = "SET standard_conforming_strings TO on; write E'…' where backslashes are meant."


def read(session: State, text: bytes) -> bytes:
    """Return the text of a statement as it is written where the setting is on; it means the same where it is off."""
    if session.text.conforming or b"\\" not in text:
        return text
    if session.text.encoding is None and not session.planner.screen.passes(text):
        raise StatementRefused(
            "backslashes cannot be told from parts of characters in this client_encoding",
            hint="SET client_encoding TO 'UTF8', or standard_conforming_strings TO on.",
        )
    return session.planner.either_way(text)[0]


@contextmanager
def positions(session: State, given: bytes, text: bytes) -> Iterator[None]:
    """Let refusals and errors point into the text that was given, where ``read`` made ``text`` of it."""
    try:
        yield
    except (StatementRefused, StatementFailed) as refusal:
        if text is not given and refusal.position is not None:
            spelled, edits = session.planner.either_way(given)
            spans = [(start, end, len(instead)) for start, end, instead in edits]
            refusal.position = map_position(spelled, given, spans, refusal.position)
        raise


def check(session: State, *, unchanged: bool) -> None:
    """Refuse what touches something protected or does not go on as it came: the proxy's constants would be read otherwise."""
    if not session.text.conforming and not unchanged:
        raise StatementRefused("a statement over protected columns is refused with standard_conforming_strings off", hint=_HINT)
