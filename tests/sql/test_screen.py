"""Which texts are looked at: every spelling of a protected name is found, and ordinary statements are not parsed."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.policy.catalog import Relation
from phiproxy.sql.parse import parse
from phiproxy.sql.screen import _PIECE, Screen
from tests.clinic_model import CATALOG, PROTECTION

_OTHERS = (Relation(70000, "public", "rooms", "r", ()), Relation(70001, "public", "log", "r", ()))
SCREEN = Screen(PROTECTION, dataclasses.replace(CATALOG, relations=(*CATALOG.relations, *_OTHERS)))
NAMES = sorted({*PROTECTION.table_names, *PROTECTION.column_names, *CATALOG.reaching})


def spellings(name: str, upper: list[bool]) -> list[str]:
    """Return ways to write an identifier."""
    mixed = "".join(c.upper() if up else c for c, up in zip(name, upper * len(name), strict=False))
    escaped = "".join(f"\\{ord(c):04x}" for c in name)
    return [mixed, f'"{name}"', f'U&"{escaped}"', f'u&"{escaped}"', f'"public"."{name}"']


@given(name=st.sampled_from(NAMES), upper=st.lists(st.booleans(), min_size=1, max_size=20))
def test_every_spelling_of_a_protected_name_is_found(name: str, upper: list[bool]) -> None:
    for spelled in spellings(name, upper):
        assert SCREEN.mentions(f"SELECT 1 FROM {spelled} x".encode())


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "INSERT INTO rooms VALUES (1, 'x')",
        "UPDATE rooms SET a = 1",
        "SELECT city FROM log",
        "UPDATE rooms SET a = 1;",
        "\n  insert INTO rooms\tVALUES (1) ; ;\n",
        "SELECT into_temp FROM log;",
    ],
)
def test_ordinary_statements_are_neither_found_nor_watched(text: str) -> None:
    assert not SCREEN.mentions(text.encode())
    assert not SCREEN.watched(text.encode())
    assert SCREEN.passes(text.encode())


@pytest.mark.parametrize(
    ("text", "watched"),
    [
        ("INSERT INTO rooms VALUES (1)", False),
        ('insert\n into public . "rooms"(a) VALUES (1)', False),
        ("WITH a AS (INSERT INTO rooms VALUES (1)) INSERT INTO log VALUES (2)", False),
        ("SELECT inserted FROM log", False),
        ("INSERT INTO romos VALUES (1, 'x')", True),
        ("INSERT INTO rooms.romos VALUES (1)", True),
        ('INSERT INTO "Rooms" VALUES (1)', True),
        ("INSERT /* a */ INTO rooms VALUES (1)", True),
        ("INSERT INTO /* a */ rooms VALUES (1)", True),
        ("WITH a AS (INSERT INTO rooms VALUES (1)) INSERT INTO romos VALUES (2)", True),
        ("MERGE INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
    ],
)
def test_an_insert_into_what_is_not_there_is_watched(text: str, watched: bool) -> None:
    assert not SCREEN.mentions(text.encode())
    assert SCREEN.watched(text.encode()) is watched
    assert SCREEN.passes(text.encode()) is not watched


@pytest.mark.parametrize(
    "text",
    [
        "SET search_path TO x",
        "reset all",
        "DISCARD ALL",
        "SELECT set_config('search_path', 'x', false)",
        "UPDATE pg_settings SET setting = 'x'",
        "PREPARE s AS SELECT 1",
        "EXECUTE s",
        "DEALLOCATE s",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH c",
        "CREATE TABLE t (a int)",
        "DO $$ BEGIN END $$",
        "CALL p()",
        "ROLLBACK",
        "SELECT 1; SET ROLE x",
        "SELECT 1;SET ROLE x;",
        "SELECT 1; ; SET ROLE x",
        "SELECT 1 INTO TEMP t",
        "SELECT 1 INTO\ntemporary t;",
        "selects; SET ROLE x",
        "SET x = 'É'",
    ],
)
def test_what_changes_later_names_is_watched(text: str) -> None:
    assert SCREEN.watched(text.encode())
    assert not SCREEN.passes(text.encode())


@pytest.mark.parametrize(
    "text", ["BEGIN", "begin;", "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", "end ;\n", "ROLLBACK TO SAVEPOINT a_1"]
)
def test_statements_that_only_control_a_transaction(text: str) -> None:
    assert SCREEN.controls(text.encode())
    (statement,) = parse(text.encode())
    assert statement.kind == "TransactionStmt"


@pytest.mark.parametrize("text", ["BEGIN; SET ROLE x", "BEGIN;;", 'SAVEPOINT "a"', "COMMIT PREPARED 'x'", "ends", "", "COMMIT--"])
def test_other_texts_do_not_only_control_a_transaction(text: str) -> None:
    assert not SCREEN.controls(text.encode())


def test_a_long_text_is_told_apart_in_little_time() -> None:
    began = time.perf_counter()
    assert not SCREEN.controls(b"COMMIT" + b" " * 100_000 + b"!")
    assert time.perf_counter() - began < 1


@given(text=st.lists(st.sampled_from([*NAMES, "select", "SET", ";", " ", "into", "temp", "x", "é", "'"]), max_size=9).map("".join))
def test_a_text_passes_that_is_neither_found_nor_watched(text: str) -> None:
    raw = text.encode()
    assert SCREEN.passes(raw) is not (SCREEN.mentions(raw) or SCREEN.watched(raw))


def test_what_changes_the_session_by_itself_is_watched() -> None:
    screen = Screen(PROTECTION, dataclasses.replace(CATALOG, setters=frozenset({"set_tenant"})))
    assert screen.watched(b"SELECT Set_Tenant('a')")
    assert not screen.passes(b"SELECT set_tenant('a')")
    assert not screen.watched(b"SELECT get_tenant('a')")
    assert not SCREEN.watched(b"SELECT set_tenant('a')")


def test_a_watched_word_is_found_wherever_pieces_end() -> None:
    """A long text is searched in pieces: at their borders a word is neither lost nor cut off."""
    found = Screen(PROTECTION, CATALOG)
    for place in range(_PIECE - 20, _PIECE + 20):
        assert found.watched(b"explain " + b"x" * place + b" rollback; " + b"y" * 100), place
    assert not found.watched(b"explain " + b"x " * _PIECE)


def test_texts_that_a_function_may_run_over_a_database_are_watched() -> None:
    assert SCREEN.watched(b"SELECT run_sql('alter DATABASE x rename to y')")
    assert not SCREEN.watched(b"SELECT a FROM databases")
