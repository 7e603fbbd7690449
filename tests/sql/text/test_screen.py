"""Which texts are looked at: every spelling of a protected name is found, and ordinary statements are not parsed."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.access.rules import Masked
from phiproxy.access.shows import read_show
from phiproxy.effects import Effects
from phiproxy.policy.catalog import Relation
from phiproxy.sql.statements.utility import effects
from phiproxy.sql.text import screen as screen_module
from phiproxy.sql.text.parse import messages, parse
from phiproxy.sql.text.screen import _PIECE, Defined, NameSearch, Screen
from tests.clinic_model import CATALOG, PROTECTION
from tests.harness.costs import cpu_seconds_of

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
        "EXPLAIN SELECT CASE a WHEN 1 THEN 2 END FROM log",
        "explain (costs off, format json)select set, into from log;",
        "EXPLAIN ANALYZE VERBOSE UPDATE rooms SET a = 1",
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
        ("SELECT CASE cmd WHEN 'a' THEN 'INSERT' END, 'insert' FROM log", False),
        ("SELECT has_table_privilege('log', 'INSERT, UPDATE')", False),
        ("INSERT INTO romos VALUES (1, 'x')", True),
        ("INSERT INTO rooms.romos VALUES (1)", True),
        ('INSERT INTO "Rooms" VALUES (1)', True),
        ("INSERT /* a */ INTO rooms VALUES (1)", True),
        ("INSERT INTO /* a */ rooms VALUES (1)", True),
        ("INSERT--a\n INTO rooms VALUES (1)", True),
        ('INSERT INTO"rooms" VALUES (1)', True),
        ("WITH a AS (INSERT INTO rooms VALUES (1)) INSERT INTO romos VALUES (2)", True),
        ("MERGE INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("MERGE INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT(a) VALUES (1)", True),
        ("MERGE INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT DEFAULT VALUES", True),
        ("MERGE INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT OVERRIDING USER VALUE VALUES (1)", True),
        ("MERGE INTO rooms USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", False),
        (
            'WITH a AS (SELECT 1) merge\n into ONLY public . "rooms" USING a ON b WHEN NOT MATCHED THEN insert(a) VALUES (1)',
            False,
        ),
        ("MERGE INTO rooms USING log ON true WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT /* a */ VALUES (1)", True),
        ("MERGE INTO rooms USING log ON 'a merge' = merge(1) WHEN NOT MATCHED THEN INSERT VALUES ('merge2')", False),
        ("MERGE--a\nINTO romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("MERGE /* a */ INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("MERGE INTO/* MERGE INTO rooms */ romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("MERGE INTO ONLY (romos) USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("MERGE INTO rooms.romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
        ("SELECT 'MERGE INTO rooms'; MERGE INTO romos USING log ON true WHEN NOT MATCHED THEN INSERT VALUES (1)", True),
    ],
)
def test_an_insert_into_what_is_not_there_is_watched(text: str, watched: bool) -> None:
    assert not SCREEN.mentions(text.encode())
    assert SCREEN.watched(text.encode()) is watched
    assert SCREEN.passes(text.encode()) is not watched


@pytest.mark.parametrize(
    "text",
    [
        "GRANT INSERT, UPDATE ON romos TO nurse",
        "GRANT SELECT (a), INSERT (a, b) ON romos TO merge_role",
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON romos EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON INSERT TO romos DO NOTHING",
    ],
)
def test_a_privilege_or_an_event_is_no_insert(text: str) -> None:
    assert not SCREEN.inserts_elsewhere(text.encode())


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


@given(st.lists(st.sampled_from(["BEGIN", "COMMIT;", "SELECT 1", "SELECT ssn", "SET ROLE x", "BEGIN; SET ROLE x"])))
def test_what_goes_unread_passes_or_controls_whatever_was_judged_before_it(texts: list[str]) -> None:
    used = Screen(PROTECTION, CATALOG)
    for text in texts:
        assert used.goes_unread(text.encode()) is (used.passes(text.encode()) or used.controls(text.encode()))


def test_a_long_text_is_told_apart_in_little_time() -> None:
    text = b"COMMIT" + b" " * 100_000 + b"!"
    assert not SCREEN.controls(text)
    assert cpu_seconds_of(partial(SCREEN.controls, text)) < 1


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
    screen = Screen(PROTECTION, CATALOG)
    for place in range(_PIECE - 20, _PIECE + 20):
        assert screen.watched(b"explain " + b"x" * place + b" rollback; " + b"y" * 100), place
    assert not screen.watched(b"explain " + b"x " * _PIECE)


def test_a_name_is_found_wherever_pieces_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a text of megabytes is put together in lower case no other thread has its turn."""
    sizes, lowered = set[int](), screen_module._lowered

    def counted(text: bytes) -> str:
        sizes.add(len(text))
        return lowered(text)

    monkeypatch.setattr(screen_module, "_PIECE", 32)
    names = NameSearch(["Patients", "ssn"])
    monkeypatch.setattr(screen_module, "_lowered", counted)
    for place in range(80):
        for text, found in ((b"PATIENTS", True), (b"ssn", True), (b"patient s", False), (b'u&"', True)):
            assert names.mentions(b"x" * place + text + b"x" * 40) is found
    assert max(sizes) == 32 + len("patients")


def test_texts_that_a_function_may_run_over_a_database_are_watched() -> None:
    assert SCREEN.watched(b"SELECT run_sql('alter DATABASE x rename to y')")
    assert not SCREEN.watched(b"SELECT a FROM databases")


_NUMBERED = dataclasses.replace(
    CATALOG,
    relations=(
        *CATALOG.relations,
        *(Relation(80000 + n, "public", name, "r", ()) for n, name in enumerate(("t1", "t22", "t\ufffd"))),
    ),
    setters=frozenset({"set_tenant9"}),
)
_WORDS = (
    "select", "insert into", "values", "(1)", "t1", "t2", "t22", "t\ufffd", "\ufffd", "ssn", "ssn7", "set_tenant9", "set_tenant8",
    "set", "set1", ";", "=", "42", "'17'", '"t1"', "7", " ", " where ", "limit 9", "$1", "patients", "patients2",
)  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=6), min_size=1, max_size=12))
def test_a_text_passes_whatever_was_judged_before_it(texts: list[list[str]]) -> None:
    """Texts that differ in digits only are judged once; here names do, too."""
    used = Screen(PROTECTION, _NUMBERED)
    for text in (" ".join(words).encode() for words in texts):
        for spelled in (text, text.translate(bytes.maketrans(b"0123456789", b"1234567890"))):
            assert used.passes(spelled) == Screen(PROTECTION, _NUMBERED).passes(spelled)


def test_a_text_is_judged_once_whatever_its_digits_are() -> None:
    screen = Screen(PROTECTION, _NUMBERED)
    assert screen.passes(b"SELECT a FROM t1 WHERE id = 10")
    assert len(screen._passed) == 1
    assert screen.passes(b"SELECT a FROM t2 WHERE id = 77")
    assert screen.passes(b"INSERT INTO t1 VALUES (1)")
    assert not screen.passes(b"INSERT INTO t2 VALUES (1)")
    assert len(screen._passed) == 1


@pytest.mark.parametrize(
    "text",
    [
        "EXPLAIN EXECUTE p",
        "EXPLAIN ANALYZE EXECUTE p",
        "EXPLAIN (ANALYZE) EXECUTE p(1)",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "EXPLAIN SELECT 1; SET search_path = x",
        "EXPLAIN SELECT set_config('search_path', 'x', false)",
        "EXPLAIN ANALYZE SELECT 1 AS a INTO TEMP t",
        "EXPLAIN DECLARE c CURSOR FOR SELECT 1",
        "EXPLAIN (ANALYZE ')') EXECUTE p",
        "EXPLAIN /* ( */ EXECUTE p /* ) SELECT */",
    ],
)
def test_explain_of_what_is_watched_is_watched(text: str) -> None:
    assert SCREEN.watched(text.encode())


def test_a_relation_that_the_session_has_made_is_no_other() -> None:
    screen, text = Screen(PROTECTION, CATALOG), b"INSERT INTO made VALUES (1, 'x')"
    for created in ((), ("made",), ("another",), ()):  # what passes for one session does not for another
        assert screen.passes(text, created) is ("made" in created)
        assert screen.watched(text, created) is ("made" not in created)
    assert not screen.passes(b"INSERT INTO made VALUES (1); INSERT INTO patient VALUES (2)", ("made",))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("CREATE TABLE rooms (id int)", Defined("rooms")),
        ("create table if not exists public.Rooms(id int DEFAULT 1, note text DEFAULT 'it''s') ;", Defined("rooms")),
        ("CREATE UNLOGGED TABLE rooms (id int REFERENCES log, CHECK (id > 0)) INHERITS (log)", Defined("rooms")),
        ("CREATE TABLE rooms PARTITION OF log FOR VALUES FROM (1) TO (2)", Defined("rooms")),
        ("CREATE VIEW lg AS SELECT id, lower(msg) FROM log ORDER BY 1", Defined("lg")),
        ("CREATE OR REPLACE VIEW lg (a) AS WITH x AS (SELECT 1) SELECT * FROM x", Defined("lg")),
        ("CREATE FUNCTION public.f(a int) RETURNS int AS $$ SELECT $1; -- 'a'\n SELECT 2 $$ LANGUAGE sql;", Defined(code="f")),
        ("CREATE OR REPLACE PROCEDURE f() AS $$ BEGIN CREATE TEMP TABLE a (); END $$ LANGUAGE plpgsql", Defined(code="f")),
        ("CREATE UNIQUE INDEX ON log (lower(msg)) WHERE id > 0", Defined()),
        ("CREATE TRIGGER t BEFORE INSERT OR UPDATE ON log FOR EACH ROW EXECUTE FUNCTION f('a')", Defined()),
        ("CREATE TYPE mood AS ENUM ('a', 'b')", Defined()),
        ("CREATE TYPE pair AS (a int, b int)", Defined()),
        ("CREATE DOMAIN positive AS int CHECK (VALUE > 0)", Defined()),
        ("CREATE SEQUENCE s START 7", Defined()),
        ("CREATE STATISTICS s ON id, msg FROM log", Defined()),
        ("CREATE POLICY p ON log USING (id > 0)", Defined()),
        ("CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)", Defined()),
        ("CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)", Defined()),
        ("ALTER TABLE log ADD note text, ALTER msg SET DEFAULT 'x'", Defined()),
        ("\n ALTER TABLE log RENAME TO lg;\n", Defined()),
        ("DROP TABLE IF EXISTS log, rooms", Defined()),
        ("DROP FUNCTION f(int, text)", Defined()),
        ("DROP VIEW v", Defined()),
        ("DROP TRIGGER t ON log", Defined()),
    ],
)
def test_ddl_that_needs_no_parse_does_what_a_parse_says_of_it(text: str, made: Defined) -> None:
    assert SCREEN.defines(text.encode()) == made
    (statement,) = parse(text.encode())
    done = effects(statement.kind, statement.body, messages(statement.body), frozenset({"goes"}))
    assert done == Effects(catalog_changed=True, created=done.created)
    assert {made.relation, made.code} - {""} <= {*done.created}


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE patients ADD note text",
        "CREATE TABLE rooms (LIKE visits)",
        "CREATE TABLE rooms (ssn text)",
        "CREATE TEMP TABLE rooms (id int)",
        "CREATE TABLE pg_temp.rooms (id int)",
        "CREATE TABLE rooms (id) AS SELECT 1",
        "CREATE TABLE rooms (id) AS VALUES (1)",
        "CREATE TABLE rooms (id) AS EXECUTE q",
        "CREATE TABLE rooms AS TABLE log",
        "CREATE TABLE rooms (id int); BEGIN",
        "CREATE TABLE rooms (id int DEFAULT ';')",
        "CREATE TABLE rooms (id int) -- a",
        "CREATE TABLE rooms (id int /* a */)",
        'CREATE TABLE "Rooms" (id int)',
        "CREATE TABLE rooms (id int DEFAULT goes())",
        "CREATE TABLE rooms (id text DEFAULT set_config('a', 'b', false))",
        "CREATE TABLE rooms (id regclass DEFAULT E'\\x70atients')",
        "CREATE TABLE rooms (id regclass DEFAULT U&'!0070atients' UESCAPE '!')",
        "CREATE TABLE rooms (id regclass DEFAULT 'pati'\n'ents')",
        "CREATE TABLE rooms (id int DEFAULT $$1$$)",
        "CREATE TABLE r\u00f6oms (id int)",
        f"CREATE TABLE {'r' * 64} (id int)",
        "CREATE INDEX ON log (goes(id))",
        "CREATE VIEW lg AS SELECT goes()",
        "CREATE VIEW lg AS SELECT ssn FROM log",
        "CREATE VIEW lg AS SELECT setting FROM pg_settings",
        "CREATE TEMP VIEW lg AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'VALUES (1)'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT count(ssn) FROM patients $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT goes() $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$ SET role = nurse",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SET ROLE nurse; SELECT 1 $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; BEGIN",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; DO $$ BEGIN END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $a$ SELECT 1 $$; $$ $a$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1; BEGIN",
        "CREATE FUNCTION f(a text DEFAULT '$$') RETURNS int LANGUAGE sql AS 'VALUES (1)'; PREPARE q AS VALUES ('$$')",
        "CREATE FUNCTION f(\"$$\" int) RETURNS int LANGUAGE sql AS 'VALUES (1)'; PREPARE q AS VALUES ('$$')",
        "CREATE FUNCTION f(a$$ int) RETURNS int LANGUAGE sql AS 'VALUES (1)'; DROP TABLE b$$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ALTER DATABASE clinic RENAME TO b; END $$",
        "CREATE TABLE rooms (id) AS WITH x AS (INSERT INTO room VALUES (1) RETURNING 1) TABLE x",
        "ALTER TABLE log SET SCHEMA archive",
        "DROP TYPE mood",
        "DROP INDEX i",
        "DROP SCHEMA archive",
        "CREATE ROLE nurse IN ROLE staff ROLE app",
        "DROP TABLE log,\n rooms CASCADE",
        "DROP ROLE nurse",
        "CREATE ROLE nurse IN ROLE staff",
        "CREATE USER nurse\n ADMIN other",
        "TRUNCATE log",
    ],
)
def test_other_ddl_is_parsed(text: str) -> None:
    screen = Screen(PROTECTION, dataclasses.replace(CATALOG, setters=frozenset({"goes"})))
    assert screen.defines(text.encode()) is None


def test_ddl_of_who_sees_masks_only_is_parsed() -> None:
    """An index over a column, or a constraint, tells of its values."""
    masked = PROTECTION.as_seen(frozenset({(("public", "patients", "ssn"), Masked(read_show("null")))}))
    assert Screen(masked, CATALOG).defines(b"CREATE TABLE rooms (id int)") is None


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("SET enable_seqscan = off;", True),
        ("set local enable_seqscan to off", True),
        ("RESET enable_seqscan", True),
        ("SET client_min_messages TO notice", True),
        ("SET enable_seqscan = off; BEGIN", False),
        ("SET enable_seqscan, role = off", False),
        ("SET enable_seqscan /* a */ = off", False),
        ("SET role = nurse", False),
        ("SET SESSION AUTHORIZATION nurse", False),
        ("SET search_path TO public", False),
        ("SET array_nulls = off", False),
        ("RESET ALL", False),
        ("SET row_security = off", False),
    ],
)
def test_a_setting_that_says_nothing_of_how_texts_are_read_passes(text: str, passes: bool) -> None:
    screen = Screen(dataclasses.replace(PROTECTION, fixed=frozenset({"row_security"})), CATALOG)
    assert screen.passes(text.encode()) is passes
