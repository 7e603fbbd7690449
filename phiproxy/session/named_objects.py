"""What a session's names mean now: prepared statements and portals, as the planner asks for them (``plan.named_statements``)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.subjects_of_execution import with_values
from phiproxy.plan.values_no_index_answers import Unanswered
from phiproxy.session import split_statements, transaction_catalog
from phiproxy.session.client_encoding import writable
from phiproxy.session.current_access_and_expiry import check_portal
from phiproxy.session.pipeline import Edits, Expected, Kind
from phiproxy.session.slow_work import plan_statement, plan_waiting, spell
from phiproxy.session.state import State
from phiproxy.session.statement_effects import await_name, stamp_of
from phiproxy.session.statements_and_portals import Prepared, Stamp
from phiproxy.session.substitutes_and_questions import FLUSH, OWN_NAME, InvalidStatementName, waits_in_group
from phiproxy.wire.messages import SYNC, Field, encode_parse, message

# A declared type that is none of those that are told apart (``sql.statements.prepare_and_cursors``).
_OTHER = 0xFFFFFFFF


class RenewalNeeded(Exception):
    """An EXECUTE names a statement that the server has to prepare anew first, in messages of the proxy's own."""

    def __init__(self, name: bytes, prepared: Prepared) -> None:
        super().__init__("a statement has to be prepared anew")
        self.name = name
        self.prepared = prepared


class KnownNamesOf:
    """The names of one session; asking raises Later while it is not known what a name means."""

    def __init__(self, session: State) -> None:
        self._session = session

    def statement(self, name: str) -> StatementPlan | None:
        """Return the plan of a prepared statement, right for the present; None where the session knows none."""
        key = name.encode()
        await_name(self._session, "S", key)
        if key not in self._session.names.statements:
            return None
        prepared = current(self._session, key, executing=True)
        if isinstance(prepared.plan, SplitPlan):
            split_statements.check_read(self._session, prepared.plan, prepared.read)
        return prepared.plan

    def portal(self, name: str) -> Columns | None:
        """Return the columns of a cursor or portal, where something protected is among them."""
        key = name.encode()
        await_name(self._session, "P", key)
        portal = self._session.names.portals.get(key)
        if portal is None or not portal.plan.touches:
            return None
        if isinstance(portal.plan, SplitPlan) and portal.cursor is None:
            raise StatementRefused(
                "the portal of a statement of which a part is computed over opened rows is not read by FETCH",
                hint="Execute the portal, or DECLARE a cursor for the query.",
            )
        check_portal(self._session, key, portal)
        columns = portal.plan.columns
        return None if columns is None else Columns(columns.reveals, with_values(columns.about, portal.about))


def current(session: State, name: bytes, *, renewing: bool = False, executing: bool = False) -> Prepared:
    """Return a statement whose plan is right for the present names, path, policy and catalogue (spec/sql 2.1).

    ``renewing``: it is about to be bound, so that it may be prepared anew where a column of it was sealed or opened
    meanwhile, or its index goes by another slot. ``executing``: EXECUTE names it; then RenewalNeeded is raised for that.
    """
    prepared = session.names.statements.get(name)
    if prepared is None:
        shown = name.decode("utf-8", "replace")
        raise InvalidStatementName(f'prepared statement "{shown}" does not exist')
    stamp = stamp_of(session)
    if not prepared.plan.text:
        return prepared
    told = prepared.unsplit or prepared.plan
    lost = prepared.lost is not None
    if prepared.stamp == stamp and not (told.bound or lost):
        if session.database is not None and session.database.unread_names:
            # A view that it names may have been replaced a moment ago.
            transaction_catalog.await_catalog(session, prepared.plan.text)
        return prepared
    fresh = _planned_again(session, told, prepared.oids)
    same = _same(fresh, told)
    if same and told is prepared.plan and not lost:
        prepared.plan, prepared.stamp = fresh, stamp
        return prepared
    fresh = _described_as_before(session, fresh, prepared)
    follows = same or (stamp[1] == prepared.stamp[1] and fresh.may_follow(told))
    if not ((renewing or executing or lost) and follows) or _OTHER in fresh.oids or (executing and prepared.lost == stamp):
        raise must_not_change(result=fresh.returns_otherwise(told))
    if prepared.by_sql and isinstance(fresh, SplitPlan) and isinstance(told, SplitPlan):
        # The server knows the name only.
        prepared.plan, prepared.stamp = fresh, stamp
        return prepared
    if executing:
        raise RenewalNeeded(name, Prepared(fresh, prepared.oids, stamp, read=prepared.read))
    return renewed(session, name, Prepared(fresh, prepared.oids, stamp, read=prepared.read))


def _same(fresh: StatementPlan, told: StatementPlan) -> bool:
    """Tell whether a statement is the same still: then what the engine has said of it is true still."""
    pairs = [(fresh, told)]
    if fresh.prepared is not None and told.prepared is not None:
        pairs.append((fresh.prepared[0], told.prepared[0]))
    for new, old in pairs:
        if isinstance(new, SplitPlan) and isinstance(old, SplitPlan) and new.same(old):
            new.descriptions = old.descriptions
    return fresh.same(told)


def _described_as_before(session: State, fresh: StatementPlan, prepared: Prepared) -> StatementPlan:
    """Return a new plan, of a split statement described anew; StatementRefused where that has another result: WorkNeeded.

    The server, which has a part of it only, would not say so: SELECT *, upper(full_name) FROM patients, after ADD COLUMN.
    """
    before = split_statements.description_of(session, prepared.plan) if isinstance(prepared.plan, SplitPlan) else None
    if before is None:
        return fresh
    split = fresh if prepared.unsplit is None else _planned_again(session, prepared.plan, prepared.oids)
    if not isinstance(split, SplitPlan):
        return fresh
    split = split_statements.described(session, split, prepared.oids)
    now = split_statements.description_of(session, split)
    if now is not None and [_told_of(column) for column in now.fields] != [_told_of(column) for column in before.fields]:
        raise must_not_change(result=True)
    return split if prepared.unsplit is None else fresh


def _told_of(column: Field) -> tuple[object, ...]:
    """Return what PostgreSQL compares of a result column: of which table it is may change."""
    return column.name, column.type_oid, column.typmod


def renewed(session: State, name: bytes, prepared: Prepared) -> Prepared:
    """Let the server prepare a statement anew, of which the client is told nothing: to it, nothing has changed."""
    plan = prepared.plan
    sql, edits = _spelled(session, plan)
    if name:
        session.to_server.append(message(b"C", b"S" + writable(session, name) + b"\0"))
        session.pipeline.push(Expected(Kind.CLOSE, silent=True))
    session.to_server.append(encode_parse(writable(session, name), writable(session, sql), plan.oids))
    undo = [session.names.prepare(name, prepared)]
    if name and undo[0].previous is not None:
        undo[0].previous = _lost(undo[0].previous, prepared.stamp)
    split = isinstance(plan, SplitPlan)
    texts = None if split else (sql, plan.text, edits)
    expected = Expected(Kind.PARSE, undo=undo, touches=plan.touches, texts=texts, silent=True, unplaced=split)
    expected.names_told = True
    session.pipeline.push(expected)
    return prepared


def _spelled(session: State, plan: StatementPlan) -> tuple[bytes, Edits | Callable[[], Edits]]:
    assert session.database is not None
    styles = session.styles_for(typed=plan.typed and bool(plan.literals or plan.inline))
    plan.check_literals(styles)
    return spell(session, plan, session.database.planner.ciphers, styles)


def renew_when_idle(session: State, needed: RenewalNeeded) -> bool:
    """Let the server prepare a statement anew once nothing is in flight, for an EXECUTE; False where that cannot be done.

    A simple Query cannot stand behind messages of the proxy's in one group: they are one of their own, or in the client's that is
    open.
    """
    idle = session.pipeline.front() is None
    if session.pipeline.skipping or (idle and session.status == b"E"):
        return False
    if not waits_in_group(session) and idle:
        sql, _ = _spelled(session, needed.prepared.plan)
        name = writable(session, needed.name)
        closed = message(b"C", b"S" + name + b"\0")
        parsed = encode_parse(name, writable(session, sql), needed.prepared.plan.oids)
        end = message(b"C", b"P" + OWN_NAME + b"\0") + FLUSH if session.groups.is_open else SYNC
        done = partial(_renewed, session, needed)
        session.internal(closed + parsed + end, done, in_group=session.groups.is_open)
    return True


def _renewed(session: State, needed: RenewalNeeded, ok: bool, _rows: list[bytes]) -> None:  # noqa: FBT001 - a callback
    """Take the statement as the server has it now: where it could not prepare it anew, it has none of this name for now."""
    session.blocked = False
    if ok:
        session.names.statements[needed.name] = needed.prepared
    elif (before := session.names.statements.get(needed.name)) is not None:
        session.names.statements[needed.name] = _lost(before, needed.prepared.stamp)


def _lost(prepared: Prepared, stamp: Stamp) -> Prepared:
    """Return a statement as it is where the server could not prepare it anew: PostgreSQL would have it still, and try it again."""
    return replace(prepared, lost=stamp, groups={})


def still_valid(session: State, plan: StatementPlan, oids: tuple[int, ...]) -> StatementPlan:
    """Plan a statement again and return the plan; StatementRefused when the server was told something else."""
    fresh = _planned_again(session, plan, oids)
    if not fresh.same(plan):
        raise must_not_change(result=fresh.returns_otherwise(plan))
    return fresh


def _planned_again(session: State, plan: StatementPlan, oids: tuple[int, ...]) -> StatementPlan:
    transaction_catalog.await_catalog(session, plan.text)
    if isinstance(plan, SplitPlan) and plan.split.waiting is not None and isinstance(plan.split.refusal, ValueRefused):
        return plan_waiting(session, plan.text, oids, Unanswered(*plan.split.waiting), plan.split.refusal)
    return plan_statement(session, plan.text, oids)


def must_not_change(*, result: bool = False) -> StatementRefused:
    """Return what is said of a statement that means something else now, or whose ``result`` does, and is not prepared anew.

    By the name of PostgreSQL's own function drivers know that they may prepare it again (asyncpg, pgjdbc).
    """
    why = "a name, the search path, policy or catalogue changed since this statement was prepared"
    text = "cached plan must not change result type" if result else f"cached plan must not change: {why}"
    refused = StatementRefused(text, hint="Prepare the statement again.")
    refused.objects = ((ord("R"), "RevalidateCachedQuery"),)
    return refused
