"""What a statement does to the session's names and path, and what it must not refer to; shared by simple and extended queries."""

from __future__ import annotations

from phiproxy.errors import StatementRefused
from phiproxy.plan.cache import set_path
from phiproxy.plan.statement import Effects, ScriptPart, StatementPlan
from phiproxy.session import encoding, overlay
from phiproxy.session.pipeline import Later, Undo
from phiproxy.session.prepared import Portal, Prepared, Stamp
from phiproxy.session.state import State
from phiproxy.session.substitutes import OWN_NAME, RESERVED


def apply(session: State, done: StatementPlan | ScriptPart) -> list[Undo]:
    """Apply what a statement does to the session when it is sent, and return how to take back what can be."""
    effects, names = done.effects, session.names
    _note_path(session, effects)
    if effects.styles_changed or (effects.transaction and session.styles_set):
        # ParameterStatus tells of it before ReadyForQuery, and not between the statements of a group.
        session.styles_changed = names.group
        session.styles_set = True
    created = frozenset(effects.created).difference(effects.reaches)
    overlay.note(session, effects, created, touches=done.touches)
    encoding.note(session, effects)
    session.created |= created
    undo = []
    if effects.deallocates is not None:
        undo.append(names.forget_statement(effects.deallocates.encode()))
    elif effects.deallocates_all:
        undo.extend(names.forget_statement(name) for name in list(names.statements) if name)
    if effects.prepares is not None:
        plan, oids = done.prepared or (StatementPlan(b"", b"", identity=True), ())
        undo.append(names.prepare(effects.prepares.encode(), Prepared(plan, oids, stamp_of(session), by_sql=True)))
    if effects.closes is not None:
        undo.append(names.forget_portal(effects.closes.encode()))
    elif effects.closes_all:
        undo.extend(names.forget_portal(name) for name in list(names.portals))
    if effects.declares is not None:
        undo.append(names.bind(effects.declares.encode(), _cursor(session, done)))
    return undo


def _note_path(session: State, effects: Effects) -> None:
    """Follow what a constant SET gives until the transaction ends; then, and after any other change, the path is read again."""
    ended = effects.transaction and session.path_changed is not None
    # DDL may have dropped or renamed a temporary table that hides a protected one.
    hiding = effects.catalog_changed and session.has_temporary
    if effects.path_unknown or ended or hiding:
        session.path = set_path(session.path, effects) if effects.path_unknown else None
        session.path_changed = session.names.group


def _cursor(session: State, done: StatementPlan | ScriptPart) -> Portal:
    """Return the portal that a DECLARE makes: all of its columns in one format, whatever protocol reads it."""
    columns, binary = done.cursor, done.effects.binary
    plan = StatementPlan(b"", b"", identity=True, columns=columns, touches=columns is not None, plain_select=True)
    formats = (int(binary),) * len(columns.reveals) if columns is not None else None
    return Portal(plan, formats, session.names.group, binary=binary, holds=done.effects.holds)


def check_references(effects: Effects) -> None:
    """Refuse PREPARE and DECLARE of the proxy's own names."""
    for name in (effects.prepares, effects.declares):
        if name is not None:
            check_name(name.encode())


def settled(session: State, kind: str, name: bytes) -> None:
    """Go on when it is known what a name means; else Later, for a plan must not be guessed where the server may have skipped."""
    if session.names.doubtful(kind, name) and session.pipeline.front() is not None:
        raise Later


def check_name(name: bytes) -> None:
    """Refuse the names of the proxy's own statements and portals."""
    if name in (RESERVED, OWN_NAME):
        raise StatementRefused("this name is the proxy's own", hint="Give it another name, one without phiproxy_ before it.")


def stamp_of(session: State) -> Stamp:
    """Return what a plan made now is made under."""
    assert session.database is not None
    own = (session.overlays if session.overlay is not None else 0) << 1 | (session.changed is not None)
    return session.database.generation + (own << 64), session.sure_path
