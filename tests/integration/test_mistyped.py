"""An INSERT into a table that is not there is answered by the proxy: the server would log what it was given."""

from __future__ import annotations

import psycopg
import pytest

from tests.harness.clinic import Clinic


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("table", ["patiens", "public.patiens", '"Patients"', "nowhere.patients_old"])
def test_its_values_do_not_reach_the_server(clinic: Clinic, table: str, prepare: bool) -> None:
    ssn = clinic.plant("ssn")
    with psycopg.connect(clinic.proxy_dsn) as conn:
        with pytest.raises(psycopg.errors.UndefinedTable) as raised:
            conn.execute(f"INSERT INTO {table} VALUES (1, '{ssn}')", prepare=prepare)
        name = table.replace('"', "")
        assert f'relation "{name}" does not exist' in str(raised.value.diag.message_primary)
        assert raised.value.diag.statement_position == str(len("INSERT INTO ") + 1)


def test_a_table_that_was_just_created_takes_rows(clinic: Clinic) -> None:
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("CREATE TABLE rooms_new (id int, what text)")
        conn.execute("INSERT INTO rooms_new VALUES (1, 'a')")
        conn.execute("COMMIT")
        conn.execute("CREATE TEMP TABLE rooms_own (id int, what text)")
        conn.execute("INSERT INTO rooms_own VALUES (1, 'a')")
        conn.execute("DO $$ BEGIN EXECUTE 'CREATE TABLE rooms_in_code (id int)'; END $$")
        conn.execute("INSERT INTO rooms_in_code VALUES (1)")
        conn.execute("CREATE TEMP TABLE rooms_of_string (id int); INSERT INTO rooms_of_string VALUES (1)")
        conn.execute("DROP TABLE rooms_new, rooms_own, rooms_in_code")
        conn.commit()


def test_a_table_that_another_session_has_created_takes_rows_whatever_the_path_may_be(clinic: Clinic) -> None:
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as other, psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        for _ in range(3):
            other.execute("CREATE TABLE rooms_of_others (id int)")
            conn.execute("SET search_path TO public; INSERT INTO rooms_of_others VALUES (1)")
            with conn.transaction():
                conn.execute("CREATE TEMP TABLE beside (id int) ON COMMIT DROP")
                conn.execute("INSERT INTO rooms_of_others VALUES (2)")
            other.execute("DROP TABLE rooms_of_others")


def test_a_table_that_another_session_creates_takes_rows_behind_ddl_of_its_own(clinic: Clinic) -> None:
    """What the transaction knows to be nowhere was asked for before the other session created it."""
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as other, psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("CREATE TEMP TABLE beside (id int) ON COMMIT DROP")
        with pytest.raises(psycopg.errors.UndefinedTable), conn.transaction():
            conn.execute("INSERT INTO rooms_of_later VALUES (1)")
        conn.execute("SELECT count(ssn) FROM patients")
        other.execute("CREATE TABLE rooms_of_later (id int)")
        try:
            conn.execute("INSERT INTO rooms_of_later VALUES (2)")
            conn.execute("INSERT INTO beside VALUES (3)")
            conn.commit()
            assert conn.execute("SELECT id FROM rooms_of_later").fetchall() == [(2,)]
            conn.commit()
        finally:
            other.execute("DROP TABLE rooms_of_later")
