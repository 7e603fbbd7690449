"""Split writes of several clients over the same rows: no update is lost, and what must fail fails as in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from tests.harness.clinic import Clinic
from tests.harness.waiting import until

CLIENTS, TIMES = 8, 6


def _connect(clinic: Clinic, **options: object) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(clinic.proxy_dsn, connect_timeout=240, **options)  # type: ignore[arg-type]


def _together(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(work, number) for number in range(CLIENTS)]:
            future.result(timeout=400)


@pytest.fixture
def seeded(split_clinic: Clinic) -> Clinic:
    split_clinic.seed()
    with _connect(split_clinic, autocommit=True) as conn:
        conn.execute("UPDATE patients SET notes = ''")
    return split_clinic


def test_no_update_of_one_row_is_lost(seeded: Clinic) -> None:
    def work(number: int) -> None:
        with _connect(seeded, autocommit=True) as conn:
            for time in range(TIMES):
                cursor = conn.execute("UPDATE patients SET notes = notes || %s WHERE id = 1", (f"<{number}.{time}>",))
                assert cursor.rowcount == 1

    _together(work)
    with _connect(seeded) as conn:
        notes = str(conn.execute("SELECT notes FROM patients WHERE id = 1").fetchall()[0][0])
    assert sorted(notes[1:-1].split("><")) == sorted(f"{n}.{t}" for n in range(CLIENTS) for t in range(TIMES))


def test_what_is_noted_of_an_update_is_what_it_has_made(seeded: Clinic) -> None:
    noting = (
        "WITH x AS (UPDATE patients SET notes = notes || %s WHERE id = 1 RETURNING id, notes)"
        " INSERT INTO visits (patient_id, diagnosis, room) SELECT id, notes || '!', 'noted' FROM x"
    )

    def work(number: int) -> None:
        with _connect(seeded, autocommit=True) as conn:
            for _ in range(2):
                assert conn.execute(noting, (f"<{number}>",)).rowcount == 1

    _together(work)
    with _connect(seeded) as conn:
        rows = conn.execute("SELECT diagnosis FROM visits WHERE room = 'noted' ORDER BY length(diagnosis)").fetchall()
        notes = str(conn.execute("SELECT notes FROM patients WHERE id = 1").fetchall()[0][0])
    assert [str(noted) for (noted,) in rows] == [notes[: 3 * n] + "!" for n in range(1, 2 * CLIENTS + 1)]


def test_clients_that_hold_locks_get_their_session_of_the_engine(seeded: Clinic) -> None:
    """There are fewer sessions than clients, all of which want the same two rows, in transactions."""

    def work(number: int) -> None:
        with _connect(seeded) as conn:
            for _ in range(2):
                for patient in (1, 2):
                    conn.execute("UPDATE patients SET notes = notes || %s WHERE id = %s", (str(number), patient))
                conn.commit()

    _together(work)
    with _connect(seeded) as conn:
        for (notes,) in conn.execute("SELECT notes FROM patients WHERE id < 3").fetchall():
            assert sorted(str(notes)) == sorted("".join(str(n) * 2 for n in range(CLIENTS)))


def test_rows_that_the_engine_chooses(seeded: Clinic) -> None:
    with _connect(seeded, autocommit=True) as conn:
        total = conn.execute("UPDATE patients SET full_name = 'Zoë ' || id").rowcount
        conn.execute("UPDATE patients SET visits_count = 0")

    def work(_: int) -> None:
        with _connect(seeded, autocommit=True) as conn:
            done = 0
            while done < TIMES:
                try:
                    cursor = conn.execute("UPDATE patients SET visits_count = visits_count + 1 WHERE full_name ILIKE %s", ("zo%",))
                except errors.DeadlockDetected:
                    continue  # the order of rows is that of each one's snapshot, as of an UPDATE in PostgreSQL
                assert cursor.rowcount == total
                done += 1

    _together(work)
    with _connect(seeded) as conn:
        assert conn.execute("SELECT DISTINCT visits_count FROM patients").fetchall() == [(CLIENTS * TIMES,)]


IN_WITH = {
    "computed": "WITH x AS (UPDATE patients SET notes = notes || %s WHERE id = 1 RETURNING id, notes) SELECT upper(notes) FROM x",
    "a computed value beside": "WITH x AS (UPDATE patients SET notes = notes || %s WHERE id = 1 RETURNING id),"
    " y AS (INSERT INTO visits (patient_id, diagnosis) SELECT 1, 'seen' FROM x RETURNING id) SELECT id FROM y",
    "joined": "UPDATE patients p SET notes = p.notes || %s FROM visits v WHERE v.patient_id = p.id AND v.id = 1"
    " RETURNING reverse(p.ssn)",
}


@pytest.mark.parametrize("kind", IN_WITH)
def test_no_update_in_with_or_of_a_join_is_lost(seeded: Clinic, kind: str) -> None:
    def work(number: int) -> None:
        with _connect(seeded, autocommit=True) as conn:
            for time in range(TIMES):
                assert len(conn.execute(IN_WITH[kind], (f"<{number}.{time}>",)).fetchall()) == 1

    _together(work)
    with _connect(seeded) as conn:
        notes = str(conn.execute("SELECT notes FROM patients WHERE id = 1").fetchall()[0][0])
        assert sorted(notes[1:-1].split("><")) == sorted(f"{n}.{t}" for n in range(CLIENTS) for t in range(TIMES))
        seen = conn.execute("SELECT count(*) FROM visits WHERE diagnosis = 'seen'").fetchone()
        assert seen == (CLIENTS * TIMES if "INSERT" in IN_WITH[kind] else 0,)


AROUND = (
    "WITH x AS (UPDATE patients SET visits_count = visits_count + 1 WHERE id = %s RETURNING id, full_name)"
    " SELECT upper(p.full_name), reverse(x.full_name), p.visits_count FROM x JOIN patients p ON p.id = x.id"
)


def test_a_select_around_a_write_reads_what_was_before(seeded: Clinic) -> None:
    """Each write adds one, and what is read beside is of its statement's snapshot: never what it has written itself."""

    def work(_: int) -> None:
        with _connect(seeded, autocommit=True) as conn:
            for _ in range(TIMES):
                assert len(conn.execute(AROUND, (1,)).fetchall()) == 1

    with _connect(seeded, autocommit=True) as conn:
        conn.execute("UPDATE patients SET visits_count = 0")
        assert conn.execute(AROUND, (2,)).fetchall()[0][2] == 0
    _together(work)
    with _connect(seeded) as conn:
        assert conn.execute("SELECT visits_count FROM patients WHERE id = 1").fetchall() == [(CLIENTS * TIMES,)]


def _crossed(seeded: Clinic, statement: str) -> list[str]:
    """Return how two transactions end, their SQLSTATEs, that run a statement over rows 1 and 2, each beginning with another row."""
    at_once, outcomes = threading.Barrier(2), list[str]()

    def work(first: int, second: int) -> None:
        with _connect(seeded) as conn:
            conn.execute(statement, (first,))
            at_once.wait(120)
            try:
                conn.execute(statement, (second,))
                conn.commit()
                outcomes.append("")
            except psycopg.Error as error:
                outcomes.append(error.sqlstate or "")

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, 1, 2), pool.submit(work, 2, 1)]:
            future.result(timeout=120)
    return sorted(outcomes)


CROSSED = {
    "computed": "UPDATE patients SET notes = notes || 'x' WHERE id = %s",
    "in with": "WITH x AS (UPDATE patients SET notes = notes || 'x' WHERE id = %s RETURNING notes) SELECT reverse(notes) FROM x",
    "around": AROUND,
}


@pytest.mark.parametrize("kind", CROSSED)
def test_a_deadlock_ends_as_in_postgresql(seeded: Clinic, kind: str) -> None:
    assert _crossed(seeded, CROSSED[kind]) == ["", "40P01"]


def test_repeatable_read_fails_as_in_postgresql(seeded: Clinic) -> None:
    with _connect(seeded) as one, _connect(seeded, autocommit=True) as other:
        one.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        one.execute("SELECT count(*) FROM patients").fetchall()
        other.execute("UPDATE patients SET notes = notes || 'x' WHERE id = 1")
        with pytest.raises(errors.SerializationFailure):
            one.execute("UPDATE patients SET notes = notes || 'y' WHERE id = 1")
        one.rollback()
        assert one.execute("SELECT notes FROM patients WHERE id = 1").fetchall() == [("x",)]


BESIDE = (
    "WITH x AS (UPDATE patients SET notes = notes || '!' WHERE id = 3 RETURNING id, notes)"
    " SELECT x.notes, v.n, v.d FROM x, (SELECT count(*) AS n, max(diagnosis) AS d FROM visits) v"
)


def test_a_table_beside_is_of_the_snapshot_in_which_the_rows_are_chosen(seeded: Clinic) -> None:
    """What another session commits while a row is waited for is not seen beside; the row itself is, as it is then."""
    outcomes = []
    for dsn in (seeded.plain_dsn, seeded.proxy_dsn):
        with psycopg.connect(dsn) as one, psycopg.connect(dsn, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
            one.execute("UPDATE patients SET notes = 'changed' WHERE id = 3")
            one.execute("INSERT INTO visits (patient_id, diagnosis) VALUES (3, 'zz'), (3, 'zzz')")
            waiting = pool.submit(lambda other=other: other.execute(BESIDE).fetchall())  # type: ignore[misc]
            until(lambda: seeded.site.server.waits_for_lock(other.info.backend_pid), "it does not wait for the row")
            one.commit()
            outcomes.append((waiting.result(timeout=300), other.execute(BESIDE).fetchall()))
    assert outcomes[1] == outcomes[0]
    ((first,), (second,)) = outcomes[1]
    assert (first[0], second[0], second[1] - first[1], second[2]) == ("changed!", "changed!!", 2, "zzz")


def test_nothing_is_changed_of_a_row_that_is_gone(seeded: Clinic) -> None:
    """A row that another session deletes while it is waited for is none of those that are changed."""
    with _connect(seeded) as one, _connect(seeded, autocommit=True) as other:
        one.execute("DELETE FROM visits WHERE patient_id = 3")
        one.execute("DELETE FROM patients WHERE id = 3")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: other.execute("UPDATE patients SET notes = notes || 'x' WHERE id = 3").rowcount)
            until(lambda: seeded.site.server.waits_for_lock(other.info.backend_pid), "it does not wait for the row")
            one.commit()
            assert waiting.result(timeout=120) == 0


MERGE = (
    "MERGE INTO patients p USING (VALUES (%s::int, %s)) AS s (id, mark) ON p.id = s.id"
    " WHEN MATCHED AND p.notes NOT LIKE 'closed%%' THEN UPDATE SET notes = p.notes || s.mark"
    " WHEN NOT MATCHED THEN INSERT (id, notes) VALUES (s.id, s.mark)"
)


def test_no_update_of_a_merge_is_lost(seeded: Clinic) -> None:
    """Of a row that several sessions are about to insert, all but one fail with 23505, as in PostgreSQL, and then update it."""

    def work(number: int) -> None:
        with _connect(seeded, autocommit=True) as conn:
            time = 0
            while time < TIMES:
                try:
                    assert conn.execute(MERGE, (1 + number % 2 * 900, f"<{number}.{time}>")).rowcount == 1
                except errors.UniqueViolation:
                    continue
                time += 1

    _together(work)
    with _connect(seeded) as conn:
        notes = "".join(str(notes) for (notes,) in conn.execute("SELECT notes FROM patients WHERE id IN (1, 901)").fetchall())
    assert sorted(notes[1:-1].split("><")) == sorted(f"{n}.{t}" for n in range(CLIENTS) for t in range(TIMES))


@pytest.mark.parametrize("change", ["SET notes = 'open'", "SET notes = 'closed'", "SET id = 77"])
def test_a_row_that_changes_while_a_merge_waits_for_it(seeded: Clinic, change: str) -> None:
    """The conditions are decided over its newest version; a row that is matched no longer is one that is not matched."""
    outcomes = []
    for dsn in (seeded.plain_dsn, seeded.proxy_dsn):
        with psycopg.connect(dsn) as one, psycopg.connect(dsn, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
            one.execute("DELETE FROM visits")
            one.execute("UPDATE patients SET notes = ''")
            one.commit()
            one.execute(f"UPDATE patients {change} WHERE id = 3".encode())
            waiting = pool.submit(lambda other=other: other.execute(MERGE, (3, "!")).rowcount)  # type: ignore[misc]
            until(lambda: seeded.site.server.waits_for_lock(other.info.backend_pid), "it does not wait for the row")
            one.commit()
            outcomes.append((waiting.result(timeout=120), one.execute("SELECT id, notes FROM patients ORDER BY id").fetchall()))
    assert outcomes[1] == outcomes[0]


def test_a_deadlock_of_merges_ends_as_in_postgresql(seeded: Clinic) -> None:
    at_once, outcomes = threading.Barrier(2), list[str]()

    def work(first: int, second: int) -> None:
        with _connect(seeded) as conn:
            conn.execute(MERGE, (first, "x"))
            at_once.wait(120)
            try:
                conn.execute(MERGE, (second, "y"))
                conn.commit()
                outcomes.append("")
            except psycopg.Error as error:
                outcomes.append(error.sqlstate or "")

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, 1, 2), pool.submit(work, 2, 1)]:
            future.result(timeout=120)
    assert sorted(outcomes) == ["", "40P01"]
