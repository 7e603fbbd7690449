"""Split writes in what bounds a transaction: read-only ones, timeouts, savepoints, serializable ones. As PostgreSQL itself."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.harness.clinic import Clinic

WRITES = {
    "of the row": "UPDATE patients SET notes = notes || 'x' WHERE id = 1",
    "of a join": "UPDATE patients p SET notes = p.notes || v.room FROM visits v WHERE v.patient_id = p.id",
    "chosen": "DELETE FROM visits WHERE diagnosis > ''",
    "values": "INSERT INTO patients (id, notes) VALUES (900, upper('x'))",
    "of a query": "INSERT INTO patients (id, notes) SELECT id + 900, upper(notes) FROM patients",
    "upsert": "INSERT INTO patients AS p (id, notes) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE"
    " SET notes = p.notes || EXCLUDED.notes",
    "merge": "MERGE INTO patients p USING visits v ON v.patient_id = p.id WHEN MATCHED THEN UPDATE SET notes = p.notes || v.room",
    "in with": "WITH x AS (UPDATE patients SET notes = notes || 'x' WHERE id = 1 RETURNING notes) SELECT reverse(notes) FROM x",
    "returned": "UPDATE patients SET city = 'x' WHERE id = 1 RETURNING upper(notes)",
}
FAILING = {
    "22P02": "UPDATE patients SET notes = (notes::int + 1)::text",
    "23505": "INSERT INTO patients (id, notes) SELECT id, upper(notes) FROM patients",
    "23503": "INSERT INTO visits (patient_id, diagnosis) SELECT id + 900, upper(notes) FROM patients",
}
Session = psycopg.Connection[tuple[object, ...]]
Pair = tuple[Session, Session]


def _sqlstate(session: Session, text: str) -> str | None:
    try:
        session.execute(text.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def _same(pair: Pair, work: Callable[[Session], object]) -> object:
    """Return what a session with PostgreSQL tells, and one through the proxy too."""
    direct, proxied = map(work, pair)
    assert proxied == direct
    return direct


def test_a_read_only_transaction(pair: Pair) -> None:
    def work(session: Session) -> object:
        told = []
        for text in WRITES.values():
            session.execute("BEGIN READ ONLY")
            told.append(_sqlstate(session, text))
            session.execute("ROLLBACK")
        return told

    assert _same(pair, work) == ["25006"] * len(WRITES)


@pytest.mark.parametrize(("setting", "told"), [("lock_timeout", "55P03"), ("statement_timeout", "57014")])
def test_a_lock_that_is_waited_for_too_long(split_clinic: Clinic, pair: Pair, setting: str, told: str) -> None:
    """Nothing is written, and the session goes on."""
    waiting = [name for name in WRITES if name not in ("values", "of a query")]
    with psycopg.connect(split_clinic.proxy_dsn) as other:
        other.execute("UPDATE patients SET city = 'locked'")
        other.execute("UPDATE visits SET room = 'locked'")
        _, session = pair
        for name in waiting:
            session.execute(f"SET {setting} = '300ms'".encode())
            assert _sqlstate(session, WRITES[name]) == told, name
            while state := _sqlstate(session, f"RESET {setting}"):
                assert state == "57014"  # it is under that time too
        other.rollback()
        assert session.execute("SELECT count(*) FROM patients WHERE notes LIKE '%x'").fetchone() == (0,)
        assert session.execute(WRITES["of the row"].encode()).rowcount == 1


def test_savepoints(pair: Pair) -> None:
    """What is rolled back was not written; behind what fails, in the engine or at the server, the transaction goes on."""

    def work(session: Session) -> object:
        told: list[object] = []
        session.execute("BEGIN")
        for text in [*FAILING.values(), *WRITES.values()]:
            session.execute("SAVEPOINT s")
            told.append(_sqlstate(session, text))
            session.execute("ROLLBACK TO s")
        session.execute("SAVEPOINT s")
        session.execute(WRITES["of the row"].encode())
        session.execute("RELEASE s")
        told.append(session.execute("SELECT id, notes FROM patients ORDER BY id").fetchall())
        told.append(session.execute("SELECT id, diagnosis FROM visits ORDER BY id").fetchall())
        session.execute("ROLLBACK")
        return told

    told = _same(pair, work)
    assert isinstance(told, list)
    assert told[:-2] == [*FAILING, *[None] * len(WRITES)]


@pytest.mark.parametrize("name", ["of the row", "of a join", "upsert"])
def test_serializable_transactions_that_read_what_the_other_writes(split_clinic: Clinic, name: str) -> None:
    """One of two fails with 40001, as in PostgreSQL: the rows that a split write reads and locks count as read."""

    def work(dsn: str) -> object:
        with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
            for session in (one, other):
                session.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
                session.execute("SELECT count(*) FROM visits WHERE room IS NULL")
            told = [_sqlstate(one, WRITES[name]), _sqlstate(one, "UPDATE visits SET room = NULL WHERE id = 1")]
            told += [_sqlstate(other, "UPDATE visits SET room = NULL WHERE id = 2")]
            for session in (one, other):
                told.append(_sqlstate(session, "COMMIT"))
            return told

    split_clinic.seed()
    direct, proxied = map(work, (split_clinic.plain_dsn, split_clinic.proxy_dsn))
    assert proxied == direct
    assert isinstance(direct, list)
    assert "40001" in direct


def test_lists_and_nulls_of_a_prepared_write(pair: Pair) -> None:
    text = "UPDATE patients SET notes = notes || array_to_string({}, ',') WHERE id = ANY ({}) RETURNING id, right(notes, 5)"
    prepared = "PREPARE p (text[], int[]) AS " + text.format("$1", "$2")
    given: list[tuple[list[str | None] | None, list[int | None] | None]] = [
        (["a", "b"], [1, 2]), (["a", None], [1, None]), (None, [1]), (["a"], None), ([], [3]), (["x'y"], []),
    ]  # fmt: skip

    def work(session: Session) -> object:
        session.execute("BEGIN")
        told = [sorted(session.execute(text.format("%s::text[]", "%s::int[]").encode(), one).fetchall(), key=str) for one in given]
        session.execute(prepared.encode())
        executes = ("EXECUTE p ('{a,b}', '{1,2}')", "EXECUTE p (NULL, '{1}')", "EXECUTE p ('{NULL}', NULL)")
        told += [sorted(session.execute(execute.encode()).fetchall(), key=str) for execute in executes]
        session.execute("DEALLOCATE p")
        session.execute("ROLLBACK")
        return told

    assert _same(pair, work)
