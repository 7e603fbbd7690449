"""The catalogue after the client's own DDL: as its transaction sees it, read in that transaction; after its end, read afresh.

Nothing is modelled, so savepoints, failed statements and what functions did are seen as they are. It is asked for only before a
statement that may name something protected is planned.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from phiproxy.effects import Effects
from phiproxy.errors import AnnouncementNeeded, CatalogNeeded, StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.policy.catalog import ANYTHING
from phiproxy.session import slow_work
from phiproxy.session.pipeline import Later
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import ask, waits_in_group

# Bytes of a text in which a name is looked for by itself: in one that is longer, a look at the catalogue takes less than that.
SHORT = 16 * 1024
# Bytes, less one character, up to which PostgreSQL reads a name: a longer word may mean one of this length.
_WHOLE = 60
_OF_A_WORD = re.compile(rb"[a-z0-9_\x80-\xff]")


class OverlayNeeded(Exception):
    """A statement comes behind DDL of its own transaction: the catalogue must be read there first.

    ``position`` is where a refusal points, where it cannot be read.
    """

    def __init__(self, position: int | None = None) -> None:
        super().__init__("the catalogue of this transaction must be read")
        self.position = position


def note(session: State, effects: Effects, created: frozenset[str], *, touches: bool) -> None:
    """Note what was sent and may change the catalogue, for everybody or in this transaction only."""
    concerns = touches or effects.names_protected
    moves = effects.moves or (effects.cascades and session.planner.catalog.loses_columns)
    if effects.catalog_changed and (concerns or effects.code or moves):
        session.pending.announcement = session.groups.number
    if effects.schemas:
        session.pending.schemas = session.groups.number
    if effects.transaction and (session.catalog.overlay is not None or session.pending.catalog is not None):
        session.catalog.left_in = session.groups.number
    if effects.catalog_changed or (effects.transaction and session.catalog.overlay is not None):
        session.pending.catalog = session.groups.number
    if concerns or effects.reaches or effects.code:
        # Only the catalogue tells what these are. Of other DDL nothing protected, and no setting, can come.
        session.catalog.suspect |= created
    if effects.code and effects.catalog_changed:
        session.catalog.setters |= {*created, ANYTHING}
    if effects.reaches and session.database is not None:
        session.database.unread_names.update(effects.reaches)
        session.database.announced_names.difference_update(effects.reaches)
    for name in effects.reaches:
        session.catalog.reaching[name] = "made in this transaction over a protected table"


def check_announced(session: State, effects: Iterable[Effects]) -> None:
    """Go on when every proxy knows the names that DDL is about to make over protected columns; else AnnouncementNeeded."""
    names = frozenset(name for effect in effects for name in effect.reaches)
    if names and session.database is not None and not names <= session.database.announced_names:
        raise AnnouncementNeeded(names)


def await_catalog(session: State, text: bytes) -> None:
    """Go on when the catalogue is known for a text; else CatalogNeeded, OverlayNeeded, Later, or a refusal where none helps.

    WorkNeeded for a long text.
    """
    assert session.database is not None
    others = session.database.unread_names.difference(session.catalog.reaching)
    if others and not session.catalog.fresh and names_one(text, others):
        _read_again(session)
        raise CatalogNeeded(changed=True)
    if session.pending.catalog is None:
        return
    if session.status == b"E":
        _check_failed(session, text)
        return
    if session.catalog.fresh and session.status == b"I" and session.pending.catalog <= session.groups.answered:
        forget(session)  # nothing that it was read without is still under way
        return
    names = session.catalog.suspect.union(session.catalog.reaching, others)
    search = partial(_concerns, text, session.planner, session.catalog.created, names)
    if not slow_work.found_in(session, text, ("catalog", session.planner, session.catalog.created, names), search):
        return
    if session.groups.answered < session.pending.catalog < session.groups.number:
        raise Later
    if session.pending.catalog == session.groups.number and session.catalog.left_in == session.groups.number:
        raise StatementRefused(
            "statements before this one, in the same pipeline, change tables and end a transaction or savepoint",
            hint="Send this one after the reply to the one before.",
            position=session.planner.place(text),
        )
    if session.status == b"I" and session.pending.catalog < session.groups.number:
        # A temporary table of its own may hide another, or have hidden it until now.
        path = session.search_path.schemas
        raise CatalogNeeded(changed=path is not None and not any(schema.startswith("pg_temp_") for schema in path))
    raise OverlayNeeded(session.planner.place(text))


def _concerns(text: bytes, planner: Planner, created: frozenset[str], names: Iterable[str]) -> bool:
    """Tell whether what a text means may hang on the catalogue; ``names`` are those that DDL has made or has to do with."""
    screen = planner.screen
    return screen.mentions(text) or screen.inserts_elsewhere(text, created) or names_one(text, names)


def _read_again(session: State) -> None:
    """Have the catalogue of this transaction read once more, which was read over what all saw then."""
    if session.catalog.overlay is not None and session.pending.catalog is None:
        in_group = session.catalog.overlaid_in == session.groups.number
        session.pending.catalog = session.groups.number if in_group else session.groups.answered


def _check_failed(session: State, text: bytes) -> None:
    """Refuse what may name something that a failed transaction has made over protected tables: the server would log its text."""
    if names_one(text, session.catalog.reaching) and not session.planner.screen.controls(text):
        raise StatementRefused(
            "current transaction is aborted, commands ignored until end of transaction block",
            hint="Send ROLLBACK.",
            position=session.planner.place(text),
        )


def names_one(text: bytes, names: Iterable[str]) -> bool:
    """Tell whether a text may name what DDL has just made, or read a schema: what that reaches may not be known yet.

    A name that stands by itself, also in a constant, which may be a statement: ``v`` is not in ``SELECT * FROM visits``. What was
    rolled back is waited for, and its name may be one letter.
    """
    folded = text.lower()
    if b'u&"' in folded or b"schema_to_xml" in folded:
        return True
    # Behind a backslash, letters and digits may mean a character that ends a word.
    by_itself = len(folded) <= SHORT and b"\\" not in folded
    return any(_is_in(folded, name, by_itself=by_itself) for name in names)


def _is_in(folded: bytes, name: str, *, by_itself: bool) -> bool:
    spelled = name.replace('"', '""').encode().lower()
    if spelled not in folded:
        return False
    return not by_itself or len(spelled) >= _WHOLE or _word(spelled).search(folded) is not None


@lru_cache(1024)
def _word(spelled: bytes) -> re.Pattern[bytes]:
    """Match a name that is no part of a longer one; a digit, ``$`` and ``_`` may stand before it: ``_v`` is an array of ``v``.

    An operator's name may stand between letters.
    """
    before = rb"(?<![a-z\x80-\xff])" if _OF_A_WORD.match(spelled[:1]) else b""
    behind = rb"(?![a-z0-9_\x80-\xff])" if _OF_A_WORD.match(spelled[-1:]) else b""
    return re.compile(before + re.escape(spelled) + behind)


def forget(session: State) -> None:
    """Go on with the catalogue that all see."""
    session.pending.catalog = None
    session.catalog.overlay = None
    session.catalog.reaching = {}
    session.catalog.suspect = session.catalog.setters = session.catalog.wanted = frozenset()


def known_there(session: State, handle: Callable[[State, bytes, int, int], object], data: bytes, start: int, end: int) -> None:
    """Handle a message; OverlayNeeded in place of CatalogNeeded for names behind DDL of the same transaction.

    Only there it is known what they are. Before a name is said not to exist it is read there once more too, over what all
    see by then: another session may have created what was not there when the transaction was asked.
    """
    try:
        handle(session, data, start, end)
    except CatalogNeeded as needed:
        if session.catalog.overlay is None:
            raise
        if needed.names:
            session.catalog.wanted |= needed.names
            raise OverlayNeeded from None
        _read_again(session)
        raise


def ask_when_idle(session: State) -> bool:
    """Ask for the catalogue of this transaction once nothing is in flight; False where that cannot be done: it may have failed."""
    idle = session.pipeline.front() is None
    if session.pipeline.skipping or (idle and session.status == b"E"):
        return False
    if not waits_in_group(session) and idle:
        assert session.database is not None
        planner, names = session.database.planner, session.catalog.created | session.catalog.wanted
        ask(session, planner.changes_query(names), lambda ok, rows: _read(session, planner, names, ok, rows))
    return True


def _read(session: State, planner: Planner, names: frozenset[str], ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - a callback
    session.blocked = False
    if not ok:
        return  # it is asked again, and refused where the transaction has failed
    session.catalog.overlay = planner.overlaid(
        [row.decode("ascii") for row in rows], session.catalog.reaching, names, session.catalog.setters
    )
    session.catalog.overlays += 1
    session.pending.catalog = None
    if session.groups.is_open and session.status == b"I":
        session.catalog.overlaid_in = session.groups.number
