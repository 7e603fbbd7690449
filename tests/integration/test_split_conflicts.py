"""ON CONFLICT DO UPDATE to computed values, by several clients: what others insert meanwhile is changed too, or 40001 is said."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import psycopg
import pytest
from psycopg import errors

from tests.fixtures.live import Twins
from tests.harness.clinic import Clinic
from tests.harness.waiting import until

CLIENTS, TIMES = 8, 5
UPSERT = "INSERT INTO patients (id, notes) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET notes = patients.notes || EXCLUDED.notes"
NUMBERED = UPSERT.replace("VALUES (%s, %s)", "VALUES (%s, %s || left(nextval('visits_id_seq')::text, 0))")
OF_A_QUERY = UPSERT.replace("VALUES (%s, %s)", "SELECT q.id, q.n || '' FROM (VALUES (%s::int, %s::text)) AS q (id, n)")


def _connect(dsn: str, **options: object) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(dsn, connect_timeout=240, **options)  # type: ignore[arg-type]


def _together(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(work, number) for number in range(CLIENTS)]:
            future.result(timeout=400)


def _notes(clinic: Clinic, patient: int) -> str:
    with _connect(clinic.proxy_dsn) as conn:
        return str(conn.execute("SELECT notes FROM patients WHERE id = %s", (patient,)).fetchall()[0][0])


def _marks() -> list[str]:
    return sorted(f"{n}.{t}" for n in range(CLIENTS) for t in range(TIMES))


@pytest.mark.parametrize("upsert", [UPSERT, OF_A_QUERY], ids=["values", "query"])
@pytest.mark.parametrize("transactions", [False, True])
def test_no_update_of_a_row_is_lost_that_all_are_about_to_insert(split_clinic: Clinic, upsert: str, *, transactions: bool) -> None:
    def work(number: int) -> None:
        with _connect(split_clinic.proxy_dsn, autocommit=True) as conn:
            for time in range(TIMES):
                if transactions:
                    with conn.transaction():
                        conn.execute("SELECT 1")
                        assert conn.execute(upsert, (900, f"<{number}.{time}>")).rowcount == 1
                else:
                    assert conn.execute(upsert, (900 + time, f"<{number}.{time}>")).rowcount == 1

    _together(work)
    notes = "".join(_notes(split_clinic, patient) for patient in ([900] if transactions else range(900, 900 + TIMES)))
    assert sorted(notes[1:-1].split("><")) == _marks()


def test_several_rows_of_one_statement(split_clinic: Clinic) -> None:
    """A statement of which some rows are inserted meanwhile fails with 40001 as a whole, and is run again; or it is a deadlock."""
    two = UPSERT.replace("VALUES (%s, %s)", "VALUES (%s, %s), (%s, %s)")

    def work(number: int) -> None:
        with _connect(split_clinic.proxy_dsn, autocommit=True) as conn:
            time = 0
            while time < TIMES:
                first = 900 + number % 2
                mark = f"<{number}.{time}>"
                try:
                    assert conn.execute(two, (first, mark, 901 - number % 2, mark)).rowcount == 2
                except (errors.SerializationFailure, errors.DeadlockDetected):
                    continue
                time += 1

    _together(work)
    for patient in (900, 901):
        assert sorted(_notes(split_clinic, patient)[1:-1].split("><")) == _marks()


WAYS: dict[str, Callable[[psycopg.Connection[tuple[object, ...]], str], object]] = {
    "extended": lambda conn, text: conn.execute(text, prepare=True).rowcount,
    "simple": lambda conn, text: conn.execute(text.encode(), prepare=False).rowcount,
    "returning": lambda conn, text: conn.execute(f"{text} RETURNING id, notes").fetchall(),
    "returning computed": lambda conn, text: conn.execute(f"{text} RETURNING id, upper(notes)").fetchall(),
}


@pytest.mark.parametrize(
    ("upsert", "way", "isolation"),
    [
        *product([UPSERT, OF_A_QUERY], WAYS, ["READ COMMITTED", "REPEATABLE READ"]),
        *((NUMBERED, way, "READ COMMITTED") for way in WAYS),
    ],
)
def test_a_row_that_is_inserted_while_the_statement_runs(split_clinic: Clinic, way: str, isolation: str, upsert: str) -> None:
    """What a client sees is what it sees of PostgreSQL, and so are numbers: none is taken twice."""
    text = upsert % ("900", "'second'")
    outcomes = []
    for dsn in (split_clinic.plain_dsn, split_clinic.proxy_dsn):
        with _connect(dsn) as one, _connect(dsn) as other, ThreadPoolExecutor(1) as pool:
            other.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {isolation}")
            other.commit()
            other.execute("SELECT count(*) FROM visits")
            one.execute("INSERT INTO patients (id, notes) VALUES (900, 'first ')")
            waiting = pool.submit(_outcome, partial(WAYS[way], other, text))
            until(lambda: split_clinic.site.server.waits_for_lock(other.info.backend_pid), "it does not wait")
            one.commit()
            outcome = waiting.result(timeout=120)
            other.commit()
            stored = one.execute("SELECT id, notes FROM patients").fetchall()
            outcomes.append((outcome, stored, one.execute("SELECT last_value, is_called FROM visits_id_seq").fetchall()))
    assert outcomes[1] == outcomes[0]
    assert outcomes[0][0] != "40001" or isolation != "READ COMMITTED"


MOVED = (
    "INSERT INTO members AS m (city, note, mrn, email) VALUES (%s, %s, lower(%s), upper(%s))"
    " ON CONFLICT (mrn) DO UPDATE SET city = %s, email = m.email || EXCLUDED.email RETURNING mrn, upper(email), city"
)


def test_parameters_that_have_other_numbers_when_all_is_executed_again(kept_split_twins: Twins) -> None:
    """The write is split itself, and in its own write a parameter has the number of a computed value of the whole."""
    clinic = kept_split_twins.clinic
    with _connect(clinic.proxy_dsn, autocommit=True) as one, _connect(clinic.proxy_dsn, autocommit=True) as other:
        other.execute("SELECT count(*) FROM members")
        try:
            with ThreadPoolExecutor(1) as pool:
                with one.transaction():
                    one.execute("INSERT INTO members (mrn, email) VALUES ('again', 'first')")
                    waiting = pool.submit(lambda: other.execute(MOVED, ("a", "b", "AGAIN", "second", "c")).fetchall())
                    until(lambda: clinic.site.server.waits_for_lock(other.info.backend_pid), "it does not wait")
                assert waiting.result(timeout=120) == [("again", "FIRSTSECOND", "c")]
        finally:
            one.execute("DELETE FROM members WHERE mrn = 'again'")


def test_several_rows_that_are_inserted_meanwhile_draw_once(kept_split_twins: Twins) -> None:
    """The first time no row is there to draw for, and none is written; all is executed again, and each draws its number."""
    clinic = kept_split_twins.clinic
    text = (
        "INSERT INTO members AS m (id, mrn) VALUES (9001, 'late2'), (9002, 'late1') ON CONFLICT (mrn)"
        " DO UPDATE SET email = m.email || nextval('numbers') - %s RETURNING mrn, email"
    )
    with _connect(clinic.proxy_dsn, autocommit=True) as one, _connect(clinic.proxy_dsn, autocommit=True) as other:
        ((last,),) = other.execute("SELECT nextval('numbers')").fetchall()
        try:
            with ThreadPoolExecutor(1) as pool:
                with one.transaction():
                    one.execute("INSERT INTO members (id, mrn, email) VALUES (9003, 'late1', 'a'), (9004, 'late2', 'b')")
                    waiting = pool.submit(lambda: other.execute(text, (last,)).fetchall())
                    until(lambda: clinic.site.server.waits_for_lock(other.info.backend_pid), "it does not wait")
                assert waiting.result(timeout=300) == [("late2", "b1"), ("late1", "a2")]
        finally:
            one.execute("DELETE FROM members WHERE id > 9000")


def test_one_of_several_rows_that_is_inserted_meanwhile(split_clinic: Clinic) -> None:
    with _connect(split_clinic.proxy_dsn) as one, _connect(split_clinic.proxy_dsn, autocommit=True) as other:
        one.execute("INSERT INTO patients (id, notes) VALUES (900, 'first')")
        with ThreadPoolExecutor(1) as pool:
            text = UPSERT.replace("VALUES (%s, %s)", "VALUES (899, 'x'), (900, 'second')")
            waiting = pool.submit(_outcome, lambda: other.execute(text).rowcount)
            until(lambda: split_clinic.site.server.waits_for_lock(other.info.backend_pid), "it does not wait")
            one.commit()
            assert waiting.result(timeout=120) == "40001"
            assert other.execute(text).rowcount == 2
        assert other.execute("SELECT id, notes FROM patients ORDER BY id").fetchall() == [(899, "x"), (900, "firstsecond")]


def test_a_failed_write_leaves_the_session_as_it_was(split_clinic: Clinic) -> None:
    with _connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute(UPSERT, (900, "a"))
        for _ in range(2):
            with pytest.raises(errors.CardinalityViolation):
                conn.execute(UPSERT.replace("VALUES (%s, %s)", "VALUES (900, %s), (900, 'y')"), ("x",))
            with pytest.raises(errors.InvalidTextRepresentation):
                conn.execute(
                    "INSERT INTO patients (id) VALUES (900) ON CONFLICT (id) DO UPDATE SET notes = patients.notes::int::text"
                )
            with pytest.raises(errors.ForeignKeyViolation):
                conn.execute(
                    "INSERT INTO visits (id, patient_id, diagnosis) VALUES (1, 12345, 'x')"
                    " ON CONFLICT (id) DO UPDATE SET diagnosis = visits.diagnosis || 'y'"
                )
        assert conn.execute(UPSERT, (900, "b")).rowcount == 1
        with conn.pipeline():
            cursors = [conn.execute(f"{UPSERT} RETURNING notes", (900, mark)) for mark in "cde"]
        assert [cursor.fetchall() for cursor in cursors] == [[("abc",)], [("abcd",)], [("abcde",)]]


def test_many_rows_of_one_statement(split_clinic: Clinic) -> None:
    rows = [(number, f"<{number}>") for number in range(1000, 1400)]
    values = ", ".join(f"({number}, '{mark}')" for number, mark in rows)
    text = UPSERT.replace("(%s, %s)", values).encode()
    with _connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        for _ in range(2):
            assert conn.execute(text).rowcount == len(rows)
        returned = text.split(b" ON CONFLICT")[0].replace(b"(id, notes)", b"(visits_count, notes)")
        assert len(conn.execute(returned + b" RETURNING upper(notes)").fetchall()) == len(rows)
        conn.execute("DELETE FROM patients WHERE visits_count IS NOT NULL")
        stored = conn.execute("SELECT id, notes FROM patients ORDER BY id").fetchall()
    assert stored == [(number, mark * 2) for number, mark in rows]


def test_nothing_is_written_by_what_is_around_a_write_in_with(split_clinic: Clinic) -> None:
    split_clinic.seed(1)
    computed = "WITH x AS (UPDATE patients SET notes = notes || 'x' RETURNING notes) SELECT upper(notes) FROM x"
    with _connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        before = conn.execute("SELECT notes FROM patients").fetchall()
        merge = "MERGE INTO patients p USING visits v ON p.id = v.patient_id WHEN MATCHED THEN UPDATE SET notes = upper(p.notes)"
        for statement in (computed, computed.replace("notes || 'x'", "'y'"), merge, UPSERT % ("1", "'x'")):
            assert conn.execute(f"EXPLAIN {statement}".encode()).fetchall()
        for around in (f"COPY ({computed}) TO STDOUT", f"DECLARE c CURSOR WITH HOLD FOR {computed}"):
            with pytest.raises(errors.FeatureNotSupported):
                conn.execute(around.encode())
        assert conn.execute("SELECT notes FROM patients").fetchall() == before


def _outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except psycopg.Error as error:
        return error.sqlstate
