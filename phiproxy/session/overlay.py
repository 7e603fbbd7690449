"""The catalogue after the client's own DDL: as its transaction sees it, read in that transaction; after its end, read afresh.

Nothing is modelled, so savepoints, failed statements and what functions did are seen as they are. It is asked for only before a
statement that may name something protected is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from phiproxy.errors import AnnouncementNeeded, CatalogNeeded, StatementRefused
from phiproxy.plan.cache import Planner
from phiproxy.plan.statement import Effects
from phiproxy.session.pipeline import Later
from phiproxy.session.state import State
from phiproxy.session.substitutes import ask, waits_in_group


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
    if effects.catalog_changed and concerns:
        session.announced = session.names.group
    if effects.transaction and (session.overlay is not None or session.changed is not None):
        session.left = session.names.group
    if effects.catalog_changed or (effects.transaction and session.overlay is not None):
        session.changed = session.names.group
    if concerns or effects.reaches or effects.code:
        # Only the catalogue tells what these are. Of other DDL nothing protected, and no setting, can come.
        session.suspect |= created
    if effects.reaches and session.database is not None:
        session.database.made.update(effects.reaches)
        session.database.confirmed.difference_update(effects.reaches)
    for name in effects.reaches:
        session.reaching[name] = "made in this transaction over a protected table"


def check_announced(session: State, effects: Iterable[Effects]) -> None:
    """Go on when every proxy knows the names that DDL is about to make over protected columns; else AnnouncementNeeded."""
    names = frozenset(name for effect in effects for name in effect.reaches)
    if names and session.database is not None and not names <= session.database.confirmed:
        raise AnnouncementNeeded(names)


def settle(session: State, text: bytes) -> None:
    """Go on when the catalogue is known for a text; else CatalogNeeded, OverlayNeeded, Later, or a refusal where none helps."""
    assert session.database is not None
    others = session.database.made.difference(session.reaching)
    if others and not session.catalog_fresh and _names_one(text, others):
        if session.overlay is not None and session.changed is None:
            session.changed = session.names.answered  # what this transaction sees was read over what all saw then
        raise CatalogNeeded(changed=True)
    if session.changed is None:
        return
    if session.status == b"E":
        _check_failed(session, text)
        return
    if session.catalog_fresh and session.status == b"I" and session.changed <= session.names.answered:
        forget(session)  # nothing that it was read without is still under way
        return
    planner, names = session.planner, session.suspect.union(session.reaching, others)
    if not (planner.mentions(text) or planner.inserts_elsewhere(text, session.created) or _names_one(text, names)):
        return
    if session.names.answered < session.changed < session.names.group:
        raise Later
    if session.changed == session.names.group and session.left == session.names.group:
        raise StatementRefused(
            "statements before this one, in the same pipeline, change tables and end a transaction or savepoint",
            hint="Send this one after the reply to the one before.",
            position=session.planner.place(text),
        )
    if session.status == b"I" and session.changed < session.names.group:
        # A temporary table of its own may hide another, or have hidden it until now.
        path = session.path
        raise CatalogNeeded(changed=path is not None and not any(schema.startswith("pg_temp_") for schema in path))
    raise OverlayNeeded(session.planner.place(text))


def _check_failed(session: State, text: bytes) -> None:
    """Refuse what may name something that a failed transaction has made over protected tables: the server would log its text."""
    if _names_one(text, session.reaching) and not session.planner.controls(text):
        raise StatementRefused(
            "current transaction is aborted, commands ignored until end of transaction block",
            hint="Send ROLLBACK.",
            position=session.planner.place(text),
        )


def _names_one(text: bytes, names: Iterable[str]) -> bool:
    """Tell whether a text may name what DDL has just made, or read a schema: what that reaches may not be known yet."""
    folded = text.lower()
    if b'u&"' in folded or b"schema_to_xml" in folded:
        return True
    return any(name.lower().replace('"', '""').encode() in folded for name in names)


def forget(session: State) -> None:
    """Go on with the catalogue that all see."""
    session.changed = None
    session.overlay = None
    session.reaching = {}
    session.suspect = session.wanted = frozenset()


def known_there(session: State, handle: Callable[[State, bytes, int, int], object], data: bytes, start: int, end: int) -> None:
    """Handle a message; OverlayNeeded in place of CatalogNeeded for names behind DDL of the same transaction.

    Only there it is known what they are.
    """
    try:
        handle(session, data, start, end)
    except CatalogNeeded as needed:
        if session.overlay is None or not needed.names:
            raise
        session.wanted |= needed.names
        raise OverlayNeeded from None


def ask_when_idle(session: State) -> bool:
    """Ask for the catalogue of this transaction once nothing is in flight; False where that cannot be done."""
    if session.pipeline.skipping:
        return False
    if not waits_in_group(session) and session.pipeline.front() is None:
        assert session.database is not None
        planner, names = session.database.planner, session.created | session.wanted
        ask(session, planner.changes_query(names), lambda ok, rows: _read(session, planner, names, ok, rows))
    return True


def _read(session: State, planner: Planner, names: frozenset[str], ok: bool, rows: list[bytes]) -> None:  # noqa: FBT001 - a callback
    session.blocked = False
    if not ok:
        return  # it is asked again, and refused where the transaction has failed
    session.overlay = planner.overlaid([row.decode("ascii") for row in rows], session.reaching, names)
    session.overlays += 1
    session.changed = None
    if session.group_open and session.status == b"I":
        session.overlaid = session.names.group
