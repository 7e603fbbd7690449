"""After the client's own DDL: the catalogue is read before anything that may name something protected is planned."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.session.needs import NeedAnnouncement, NeedCatalog
from phiproxy.session.substitutes_and_questions import own_query
from phiproxy.session.transaction_catalog import SHORT, names_one
from phiproxy.wire.messages import error_response
from phiproxy.wire.oids import FIRST_NORMAL_OID
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    data_row,
    execute,
    parse,
    query,
    ready,
    split,
)
from tests.session.screenplay import REFUSED_QUERY, SECRET, FakeDatabase, Screenplay, refused_parse

ALTER = query("ALTER TABLE public.patients ADD COLUMN zip text")
SELECT = query("SELECT zip FROM public.patients")
PLAIN = query("SELECT 1")
COLUMNS = [
    ["id", 1, 23, -1, True, False, False, None, None, None, None, None],
    ["zip", 9, 25, -1, False, False, False, None, None, None, None, None],
]


def altered(play: Screenplay, status: str) -> None:
    play.client_says(ALTER)
    play.session.to_server.clear()
    play.server_says(command_complete("ALTER TABLE"), ready(status))
    play.session.to_client.clear()


def test_outside_of_a_transaction_it_is_read_afresh(play: Screenplay) -> None:
    altered(play, "I")
    play.client_says(PLAIN)
    play.server_gets(PLAIN)
    play.server_says(command_complete("SELECT 1"), ready())
    play.session.to_client.clear()
    assert play.session.pending.catalog is not None
    play.client_says(query("SELECT ssn FROM public.patients"))
    assert play.need == NeedCatalog(changed=True)
    play.resumes()
    play.server_gets(query("SELECT ssn FROM public.patients"))
    assert play.session.pending.catalog is None


def test_in_a_transaction_it_is_read_there(play: Screenplay) -> None:
    altered(play, "T")
    play.client_says(SELECT)
    play.server_gets(*split(own_query(play.session.planner.changes_query(play.session.catalog.created))))
    nulls = [None] * 5
    row = json.dumps([100, "public", "patients", "r", False, False, False, COLUMNS, *nulls, False, None, None, *[False] * 4])
    alive = json.dumps([r.oid for r in play.session.planner.catalog.relations])
    nothing = b"[null, null, null, null, null, null]"
    told = (alive.encode(), b"[]", b"[]", nothing, row.encode())
    rows = [*(data_row(b64encode(text)) for text in told), command_complete("SELECT 5")]
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, *rows, CLOSE_COMPLETE, CLOSE_COMPLETE, ready("T"))
    play.server_gets(query("SELECT zip FROM public.patients"))
    assert play.session.catalog.overlay is not None


def test_a_savepoint_may_undo_it(play: Screenplay) -> None:
    test_in_a_transaction_it_is_read_there(play)
    play.server_says(command_complete("SELECT 0"), ready("T"))
    play.session.to_client.clear()
    play.client_says(query("ROLLBACK TO a"))
    play.session.to_server.clear()
    assert play.session.pending.catalog is not None
    play.server_says(command_complete("ROLLBACK"), ready("T"))
    play.session.to_client.clear()
    play.client_says(SELECT)
    play.server_gets(*split(own_query(play.session.planner.changes_query(play.session.catalog.created))))


def announcements(play: Screenplay) -> int:
    assert isinstance(play.session.database, FakeDatabase)
    return play.session.database.announced


def test_ddl_that_names_something_protected_is_announced_once_it_has_ended(play: Screenplay) -> None:
    altered(play, "T")
    play.client_says(PLAIN)
    play.server_says(command_complete("SELECT 1"), ready("T"))
    assert announcements(play) == 0
    play.client_says(query("COMMIT"))
    play.server_says(command_complete("COMMIT"), ready())
    assert announcements(play) == 1
    play.session.to_server.clear()
    play.session.to_client.clear()
    play.client_says(query("CREATE TABLE elsewhere (id int)"))
    play.server_says(command_complete("CREATE TABLE"), ready())
    assert announcements(play) == 1
    play.session.to_server.clear()
    play.session.to_client.clear()


@pytest.mark.parametrize(
    ("text", "announced"),
    [
        ("CREATE SCHEMA more", 0),
        ("DROP SCHEMA more", 0),
        ("GRANT USAGE ON SCHEMA more TO other", 0),
        ("REVOKE one FROM other", 0),
        ("ALTER ROLE other SUPERUSER", 0),
        ("ALTER ROLE other RENAME TO another", 0),
        ("CREATE ROLE one ROLE other", 0),
        ("DROP ROLE one", 0),
        ("DROP SCHEMA more CASCADE", 1),
        ("ALTER SCHEMA more RENAME TO elsewhere", 1),
        ("DROP EXTENSION citext", 1),
        ("DROP OWNED BY other", 1),
    ],
)
def test_behind_schemas_that_come_and_go_only_the_path_is_asked_for_again(play: Screenplay, text: str, announced: int) -> None:
    play.client_says(query(text))
    assert play.session.fence.schema_changes == 0
    play.server_says(command_complete(text.split(maxsplit=1)[0]), ready())
    assert (announcements(play), play.session.fence.schema_changes) == (announced, 1)
    play.session.to_server.clear()
    play.session.to_client.clear()


@pytest.mark.parametrize("changes", [{"generated": True}, {"type_oid": FIRST_NORMAL_OID}, {"collation": "public.german"}])
def test_behind_cascade_others_wait_where_a_column_may_go_with_what_is_dropped(
    play: Screenplay, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    planner = play.session.planner
    for announced in (0, 1):
        play.client_says(query("DROP TYPE mood CASCADE"))
        play.server_says(command_complete("DROP TYPE"), ready())
        assert announcements(play) == announced
        first, *others = planner.catalog.relations
        column = replace(first.columns[0], name="mood", **changes)  # type: ignore[arg-type]
        relations = (replace(first, columns=(*first.columns, column)), *others)
        monkeypatch.setattr(planner, "catalog", replace(planner.catalog, relations=relations))
        play.session.to_server.clear()
        play.session.to_client.clear()


def test_a_name_is_announced_before_ddl_makes_it(play: Screenplay) -> None:
    create = query("CREATE VIEW shown AS SELECT id, ssn FROM public.patients")
    play.client_says(create)
    assert play.need == NeedAnnouncement(frozenset({"shown"}))
    play.server_gets()
    assert isinstance(play.session.database, FakeDatabase)
    play.session.database.announced_names.add("shown")
    play.resumes()
    assert not play.session.database.announced_names
    (sent,) = play.session.to_server
    assert b"CREATE VIEW" in sent
    play.session.to_server.clear()
    play.server_says(command_complete("CREATE VIEW"), ready())
    play.session.to_client.clear()


def test_a_name_that_is_not_confirmed_is_not_made(play: Screenplay) -> None:
    play.client_says(query("CREATE VIEW shown AS SELECT id, ssn FROM public.patients"))
    play.resumes(StatementRefused("nobody answers", hint="Try again."))
    (sent,) = play.session.to_server
    assert b"CREATE VIEW" not in sent
    play.session.to_server.clear()


def made_and_failed(play: Screenplay) -> None:
    """Play a transaction that has made a view, and failed."""
    assert isinstance(play.session.database, FakeDatabase)
    play.session.database.announced_names.add("shown")
    play.client_says(query("BEGIN"), query("CREATE VIEW shown (x) AS SELECT ssn FROM public.patients"), query("SELECT 1/0"))
    play.session.to_server.clear()
    failed = error_response("22012", "division by zero", position=None)
    play.server_says(command_complete("BEGIN"), ready("T"), command_complete("CREATE VIEW"), ready("T"), failed, ready("E"))
    play.session.to_client.clear()


def test_a_failed_transaction_s_names_do_not_reach_the_server(play: Screenplay) -> None:
    made_and_failed(play)
    play.client_says(query(f"SELECT 1 FROM shown WHERE x = '{SECRET.decode()}'"))
    play.server_gets(REFUSED_QUERY)
    aborted = error_response("25P02", "current transaction is aborted", position=None)
    play.server_says(aborted, ready("E"))
    play.client_gets(aborted, ready("E"))
    play.client_says(query("ROLLBACK TO shown"))
    play.server_gets(query("ROLLBACK TO shown"))
    play.server_says(command_complete("ROLLBACK"), ready("T"))
    play.session.to_client.clear()


def test_a_name_that_was_taken_back_is_no_table_of_the_session(play: Screenplay) -> None:
    made_and_failed(play)
    play.client_says(query("ROLLBACK"))
    play.session.to_server.clear()
    play.server_says(command_complete("ROLLBACK"), ready("I"))
    play.session.to_client.clear()
    play.client_says(query(f"SELECT ssn FROM shown WHERE ssn = '{SECRET.decode()}'"))
    play.needs_catalog()
    play.resumes()
    play.server_gets(REFUSED_QUERY)


def test_what_names_nothing_protected_is_used_at_once(play: Screenplay) -> None:
    """``CREATE TABLE elsewhere …; INSERT INTO elsewhere …``: no catalogue can say anything of it that matters."""
    play.client_says(query("CREATE TABLE elsewhere (id int)"))
    play.session.to_server.clear()
    play.server_says(command_complete("CREATE TABLE"), ready())
    play.session.to_client.clear()
    for text in ("INSERT INTO elsewhere VALUES (1)", "ALTER TABLE elsewhere ADD b int", "DROP TABLE elsewhere"):
        play.client_says(query(text))
        assert play.need is None
        play.server_gets(query(text))
        play.server_says(command_complete("X"), ready())
        play.session.to_client.clear()


@pytest.mark.parametrize(
    ("body", "looked_up"),
    [("SELECT 1", False), ("SELECT set_config(''search_path'', ''a'', false)", True), ("SET search_path = a; SELECT 1", True)],
)
def test_a_function_that_may_change_the_session_is_looked_up(play: Screenplay, body: str, looked_up: bool) -> None:
    """``CREATE FUNCTION tenant() …; SELECT tenant()``: only the catalogue tells what runs it."""
    play.client_says(query(f"CREATE FUNCTION tenant() RETURNS int LANGUAGE sql AS '{body}'"))
    play.session.to_server.clear()
    play.server_says(command_complete("CREATE FUNCTION"), ready())
    play.session.to_client.clear()
    play.client_says(query("SELECT tenant()"))
    assert play.need == (NeedCatalog(changed=True) if looked_up else None)
    if looked_up:
        play.resumes()
    play.server_gets(query("SELECT tenant()"))


def test_what_another_session_makes_over_protected_tables_is_looked_up_after_ddl_of_ones_own_too(play: Screenplay) -> None:
    assert isinstance(play.session.database, FakeDatabase)
    play.client_says(query("CREATE TABLE elsewhere (id int)"))
    play.session.to_server.clear()
    play.server_says(command_complete("CREATE TABLE"), ready())
    play.session.to_client.clear()
    play.session.database.unread_names.add("shown")
    play.client_says(query("SELECT * FROM shown"))
    assert play.need == NeedCatalog(changed=True)
    play.resumes()
    play.server_gets(query("SELECT * FROM shown"))


@pytest.mark.parametrize(
    ("name", "text", "may"),
    [
        ("v", "SELECT * FROM V", True),
        ("v", "SELECT v.* FROM public.v", True),
        ("v", "TABLE v", True),
        ("v", "SELECT query_to_xml('TABLE v', true, true, '')", True),
        ("v", "SELECT query_to_xml(E'TABLE\\tv', true, true, '')", True),
        ("v", "SELECT NULL::_v", True),
        ("v", "SELECT 1v", True),
        ("v", "SELECT 'x$v$'", True),
        ("v", "SELECT * FROM visits WHERE move = 'vé'", False),
        ("m", "SELECT id FROM patients", False),
        ("m", 'SELECT id FROM U&"\\006d"', True),
        ("m", f"SELECT id FROM patients WHERE city = '{'x' * SHORT}'", True),
        ("ém", "SELECT id FROM ém", True),
        ("m", "SELECT id FROM ém", False),
        ("É", "SELECT id FROM É", True),
        ('a "b', 'SELECT id FROM "a ""b"', True),
        ("=", "SELECT id FROM patients WHERE id=1", True),
        ("x" * 63, f"SELECT id FROM {'x' * 70}", True),
    ],
)
def test_a_name_that_is_about_to_be_made_is_a_word(name: str, text: str, may: bool) -> None:
    assert names_one(text.encode(), [name]) is may


DDL = [parse("CREATE TABLE made (a int)"), bind(), execute()]
DDL_DONE = [PARSE_COMPLETE, BIND_COMPLETE, command_complete("CREATE TABLE")]


def asked_in_group(play: Screenplay) -> None:
    """Play DDL and a statement behind it in one group, up to the proxy's question."""
    play.client_says(*DDL, parse("SELECT ssn FROM public.patients"), bind(), execute(), SYNC)
    play.server_gets(*DDL, FLUSH)
    play.server_says(*DDL_DONE[:1])
    play.client_gets(*DDL_DONE[:1])
    play.server_gets()
    play.server_says(*DDL_DONE[1:])
    play.client_gets(*DDL_DONE[1:])
    play.server_gets(*list(split(own_query(play.session.planner.changes_query(play.session.catalog.created))))[:-1], FLUSH)


def told(play: Screenplay) -> list[bytes]:
    alive = json.dumps([r.oid for r in play.session.planner.catalog.relations])
    nothing = b"[null, null, null, null, null, null]"
    return [data_row(b64encode(text)) for text in (alive.encode(), b"[]", b"[]", nothing)]


def test_a_statement_behind_ddl_of_its_group_waits_for_the_catalogue(play: Screenplay) -> None:
    asked_in_group(play)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, *told(play), command_complete("SELECT 4"), CLOSE_COMPLETE, CLOSE_COMPLETE)
    play.server_gets(parse("SELECT ssn FROM public.patients"), bind(results=[1]), execute(), SYNC)
    assert play.session.catalog.overlay is not None
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.session.to_client.clear()
    play.client_says(query("SELECT ssn FROM public.patients"))
    assert play.need == NeedCatalog(changed=True)  # the group's end was that of its transaction
    play.resumes()
    play.session.to_server.clear()


def test_where_ddl_fails_the_rest_of_the_group_is_skipped(play: Screenplay) -> None:
    play.client_says(*DDL, parse("SELECT ssn FROM public.patients"), bind(), execute())
    play.server_gets(*DDL, FLUSH)
    failed = error_response("42P07", "there", position=None)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, failed)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, failed)
    play.client_says(SYNC)
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())


def test_a_group_has_failed_where_the_question_for_the_catalogue_fails(play: Screenplay) -> None:
    asked_in_group(play)
    canceled = error_response("57014", "canceling statement due to user request", position=None)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, canceled)
    play.client_gets(canceled)
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())


def test_a_statement_behind_ddl_and_the_end_of_its_transaction_in_one_group_is_refused(play: Screenplay) -> None:
    commit = [parse("COMMIT"), bind(), execute()]
    play.client_says(*DDL, *commit, parse("SELECT ssn FROM public.patients"), SYNC)
    play.server_gets(*DDL, *commit, refused_parse(), SYNC)


def test_a_catalogue_that_is_fresh_says_nothing_of_a_group_that_is_open(play: Screenplay) -> None:
    """The fence had passed, so it was read before the statement was looked at."""
    play.client_says(*DDL)
    play.server_gets(*DDL)
    play.session.fence.until, play.session.now = 10.0, 11.0
    play.client_says(parse("SELECT ssn FROM public.patients"))
    assert play.need == NeedCatalog(changed=True)
    play.session.now = 0.0
    play.resumes()
    play.server_gets(FLUSH)
    play.server_says(*DDL_DONE)
    play.client_gets(*DDL_DONE)
    play.server_gets(*list(split(own_query(play.session.planner.changes_query(play.session.catalog.created))))[:-1], FLUSH)
