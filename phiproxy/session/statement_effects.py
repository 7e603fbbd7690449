"""What a statement does to the session's names and path, and what it must not refer to; shared by simple and extended queries."""

from collections.abc import Sequence
from dataclasses import replace

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused
from phiproxy.plan.search_path import IN_TEMPORARY, set_path
from phiproxy.plan.statement_plan import ScriptPart, StatementPlan
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.session import client_encoding, end_user_and_break_glass, transaction_catalog
from phiproxy.session.pipeline import Later, Undo
from phiproxy.session.state import State
from phiproxy.session.statements_and_portals import Portal, Prepared, Stamp
from phiproxy.session.substitutes_and_questions import OWN_NAME, RESERVED, SECOND_NAME, WRITE_NAME


def apply(session: State, done: StatementPlan | ScriptPart, about: Sequence[Noted] = ()) -> list[Undo]:
    """Apply what a statement does to the session when it is sent, and return how to take back what can be.

    ``about`` is whom the client says it to be about.
    """
    effects, names = done.effects, session.names
    if session.catalog.setters and not effects.path_unknown:
        # A trigger, a default or a function may by now run code that its transaction has made.
        effects = replace(effects, path_unknown=True, styles_changed=True, encoding=True)
    end_user_and_break_glass.take_said(session, effects)  # while it is known who says it
    _note_path(session, effects, touches=done.touches)
    if effects.styles_changed or (effects.transaction and session.styles.set_in_transaction):
        # ParameterStatus tells of it before ReadyForQuery, and not between the statements of a group.
        session.pending.styles = session.groups.number
        session.styles.set_in_transaction = True
    created = frozenset(effects.created).difference(effects.reaches)
    transaction_catalog.note(session, effects, created, touches=done.touches)
    client_encoding.note(session, effects)
    session.catalog.created |= created
    undo = []
    if effects.deallocates is not None:
        undo.append(names.forget_statement(effects.deallocates.encode()))
    elif effects.deallocates_all:
        undo.extend(names.forget_statement(name) for name in list(names.statements) if name)
    if effects.prepares is not None:
        plan, oids = done.prepared or (StatementPlan(b"", b"", identity=True), ())
        read = session.styles.read
        undo.append(names.prepare(effects.prepares.encode(), Prepared(plan, oids, stamp_of(session), by_sql=True, read=read)))
    if effects.closes is not None:
        undo.append(names.forget_portal(effects.closes.encode()))
    elif effects.closes_all:
        undo.extend(names.forget_portal(name) for name in list(names.portals))
    if effects.declares is not None:
        undo.append(names.bind(effects.declares.encode(), _cursor(session, done, about)))
    return undo


def _note_path(session: State, effects: Effects, *, touches: bool) -> None:
    """Follow what a constant SET gives until the transaction ends; then, and after any other change, the path is read again."""
    path = session.search_path
    ended = effects.transaction and session.pending.path is not None
    hiding = effects.catalog_changed and path.has_temporary and _may_change_hiding(session, effects, touches=touches)
    if effects.path_unknown or ended or hiding:
        path.schemas = set_path(path.schemas, effects.path) if effects.path_unknown else None
        # What is made now may be the first temporary table.
        path.has_temporary = path.has_temporary or IN_TEMPORARY in (path.schemas or ())
        session.pending.path = session.groups.number


def _may_change_hiding(session: State, effects: Effects, *, touches: bool) -> bool:
    """Tell whether DDL may drop a temporary table that hides a protected one, or make one or rename one to that."""
    path = session.search_path
    named = touches or effects.names_protected or not session.planner.protection.table_names.isdisjoint(effects.created)
    return path.hides or path.schemas is None or named


def _cursor(session: State, done: StatementPlan | ScriptPart, about: Sequence[Noted]) -> Portal:
    """Return the portal that a DECLARE makes: all of its columns in one format, whatever protocol reads it."""
    columns, binary = done.cursor, done.effects.binary
    touches, touched = columns is not None, done.touched
    plan = StatementPlan(b"", b"", identity=True, columns=columns, touches=touches, plain_select=True, touched=touched)
    formats = (int(binary),) * len(columns.reveals) if columns is not None else None
    group, holds = session.groups.number, done.effects.holds
    return Portal(plan, formats, group, binary=binary, holds=holds, seen_by=session.database, about=tuple(about))


def check_references(session: State, effects: Effects) -> None:
    """Refuse PREPARE and DECLARE of the proxy's own names, and what may not be said of who acts."""
    end_user_and_break_glass.check_said(session, effects)
    for name in (effects.prepares, effects.declares):
        if name is not None:
            check_name(name.encode())


def await_name(session: State, kind: str, name: bytes) -> None:
    """Go on when it is known what a name means; else Later, for a plan must not be guessed where the server may have skipped."""
    if session.names.may_be_undone(kind, name) and session.pipeline.front() is not None:
        raise Later


def check_name(name: bytes, *, writing: bool = False) -> None:
    """Refuse the names of the proxy's own statements and portals; ``writing``: it is in a message of a split write."""
    if name in (RESERVED, OWN_NAME) or (name in (WRITE_NAME, SECOND_NAME) and not writing):
        raise StatementRefused("this name is the proxy's own", hint="Give it another name, one without phiproxy_ before it.")


def stamp_of(session: State) -> Stamp:
    """Return what a plan made now is made under."""
    assert session.database is not None
    own = (session.catalog.overlays if session.catalog.overlay is not None else 0) << 1 | (session.pending.catalog is not None)
    return session.database.generation + (own << 64), session.sure_path
