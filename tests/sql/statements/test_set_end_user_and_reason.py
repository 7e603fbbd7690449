"""SET phiproxy.end_user: the server gets a mark in place of the name."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.access.rules import AccessRules
from phiproxy.effects import Effects, mark_of
from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import ScriptPlan
from phiproxy.policy.catalog import ANYTHING
from tests.clinic_model import CATALOG, PROTECTION
from tests.plan.rings import full_ciphers
from tests.plan.test_templates import VIEW, fresh

WHO = mark_of("dr.who")


def planned(text: str) -> tuple[ScriptPlan, Effects]:
    plan = fresh().script(text.encode(), VIEW)
    assert plan.parts is not None
    return plan, plan.parts[-1].effects


FORMS = ["SET {} = '{}'", "SET LOCAL {} TO '{}'", "set  session {} to '{}' ;", "BEGIN; SET LOCAL {} = '{}'"]


@pytest.mark.parametrize("form", FORMS)
def test_the_name_becomes_its_mark(form: str) -> None:
    plan, effects = planned(form.format("phiproxy.end_user", "dr.who"))
    assert plan.render(None)[0] == form.format("phiproxy.end_user", WHO).encode()  # type: ignore[arg-type]
    assert (effects.end_user, effects.path_unknown) == ((WHO, "dr.who"), True)


def test_names_with_quotes_are_read() -> None:
    plan, effects = planned("SET PhiProxy.End_User = 'o''hara'")
    assert effects.end_user == (mark_of("o'hara"), "o'hara")
    assert b"hara" not in plan.render(None)[0]  # type: ignore[arg-type]


def test_no_name_is_no_mark() -> None:
    plan, effects = planned("SET phiproxy.end_user = ''")
    assert (plan.identity, effects.end_user and effects.end_user[1]) == (True, "")


@pytest.mark.parametrize("form", FORMS)
def test_a_reason_has_a_new_mark_each_time(form: str) -> None:
    marks = set()
    for _ in range(2):
        plan, effects = planned(form.format("phiproxy.reason", "an emergency"))
        assert effects.reason is not None
        assert (effects.reason[1], effects.path_unknown, effects.end_user) == ("an emergency", True, None)
        marks.add(effects.reason[0])
        sent = plan.render(None)[0]  # type: ignore[arg-type]
        assert sent == form.format("phiproxy.reason", effects.reason[0]).encode()
    assert len(marks) == 2


def test_a_reason_is_one_short_string() -> None:
    for text in ("SET phiproxy.reason = 7", "SET phiproxy.reason = 'a', 'b'"):
        with pytest.raises(StatementRefused, match="is one string"):
            planned(text)
    with pytest.raises(StatementRefused, match="more than 1000"):
        planned(f"SET phiproxy.reason = '{'x' * 1001}'")
    for blank in ("", "  ", "\\t\\n"):
        reason = planned(f"SET phiproxy.reason = E'{blank}'")[1].reason
        assert reason is not None
        assert reason[1] == ""
    assert planned("RESET phiproxy.reason")[1].path_unknown


def test_a_purpose_is_a_code_and_stays_as_it_is() -> None:
    plan, effects = planned("SET LOCAL phiproxy.purpose = 'TREAT'")
    assert (plan.identity, effects.path_unknown) == (True, True)
    with pytest.raises(StatementRefused, match="is a code"):
        planned("SET phiproxy.purpose = 'for Jane Doe'")
    with pytest.raises(StatementRefused, match="is one string"):
        planned("SET phiproxy.purpose = 7")


@pytest.mark.parametrize(
    "constant",
    ["U&'d!0072.w!0068o' UESCAPE '!'", "u&'dr.w\\0068o'", "U&'dr.w!0068o' /* dr.who */ UESCAPE '!'", "'dr.' -- dr.who\n 'who'",
     "E'dr\\x2ewho'", "$$dr.who$$", "$a$dr.who$a$"],
)  # fmt: skip
@pytest.mark.parametrize("form", ["SET phiproxy.end_user = {}", "SELECT set_config('phiproxy.end_user', {}, false)"])
def test_in_whatever_way_the_string_is_written(form: str, constant: str) -> None:
    plan, effects = planned(form.format(constant))
    assert plan.render(None)[0] == form.format(f"'{WHO}'").encode()  # type: ignore[arg-type]
    assert effects.end_user == (WHO, "dr.who")


@pytest.mark.parametrize(
    "text",
    [
        "/* dr.who */ SET phiproxy.end_user = 'dr.who'",
        "SET /* dr.who */ phiproxy.end_user = 'dr.who' -- dr.who",
        "SET phiproxy.end_user /*application='dr.who'*/ = 'dr.who' /*+ SeqScan(dr.who) */",
        "SET phiproxy.reason = 'dr.who' -- dr.who",
        "SELECT set_config('phiproxy.end_user', /* dr.who */ 'dr.who', true)",
        "SELECT set_config('phiproxy.end_user', $1, true) -- dr.who",
        "BEGIN; -- dr.who\nSET LOCAL phiproxy.end_user = 'dr.who'; /* dr.who */ SELECT 1 -- dr.who",
    ],
)
def test_what_a_comment_repeats_is_not_sent(text: str) -> None:
    prepared = "$1" in text
    sent = fresh().statement(text.encode(), (), VIEW).sql if prepared else planned(text)[0].render(None)[0]  # type: ignore[arg-type]
    assert b"dr.who" not in sent
    assert len(sent.split()) >= 4


def test_beside_a_purpose_comments_stay() -> None:
    assert planned("SET phiproxy.purpose = 'TREAT' -- of Monday")[0].identity


OTHER_WAYS = [
    "RESET phiproxy.end_user", "SET phiproxy.end_user TO DEFAULT", "SELECT set_config('phiproxy.end_user', NULL, true)",
    "DISCARD ALL",
]  # fmt: skip


@pytest.mark.parametrize("text", OTHER_WAYS)
def test_other_ways_to_change_it_are_asked_for(text: str) -> None:
    plan, effects = planned(text)
    assert (plan.identity, effects.end_user, effects.path_unknown) == (True, None, True)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("SELECT set_config('{}', '{}', false)", "PhiProxy.end_user"),
        ("select pg_catalog.set_config('{}'::text, '{}'::pg_catalog.text, 't'::bool) AS who;", "phiproxy.END_USER"),
        ("SELECT \"set_config\"(E'{}', '{}', $1)", "\\x50hiproxy.end_user"),
    ],
)
def test_set_config_alone_is_as_good_as_set(call: str, name: str) -> None:
    plan, effects = planned(call.format(name, "dr.who"))
    assert plan.render(None)[0] == call.format(name, WHO).encode()  # type: ignore[arg-type]
    assert (effects.end_user, effects.path_unknown) == ((WHO, "dr.who"), True)


@pytest.mark.parametrize("said", ["'phiproxy.purpose', 'for Jane Doe'", f"'phiproxy.reason', '{'x' * 1001}'"])
def test_set_config_is_refused_what_set_is(said: str) -> None:
    with pytest.raises(StatementRefused, match=r"more than 1000|is a code"):
        planned(f"SELECT set_config({said}, false)")
    assert planned("SELECT set_config('phiproxy.purpose', 'TREAT', false)")[0].identity


def test_of_parameters_is_noted_which_they_are() -> None:
    effects = fresh().statement(b"SELECT set_config('phiproxy.reason', $2::text, $1)", (), VIEW).effects
    assert (effects.given, effects.named_by) == (("phiproxy.reason", 2), ())
    effects = fresh().statement(b"SELECT set_config('search_path', $1, true), set_config($2, $3, $4)", (), VIEW).effects
    assert (effects.given, effects.named_by) == (None, (2,))


PAST_THE_PROXY = [
    "SELECT set_config('phiproxy.end_user', 'x', false), 1",
    "SELECT set_config('phiproxy.end_user', 'x', false) FROM pg_class LIMIT 1",
    "SELECT set_config('phiproxy.end_user', 'x', false) WHERE true",
    "SELECT set_config('phiproxy.end_user', 'x' || 'y', false)",
    "SELECT set_config('phiproxy.end_user', 'x'::varchar(1), false)",
    "SELECT set_config('phiproxy.end_user', 'x'::char(200), false)",
    "SELECT set_config('phiproxy.end_user', $1::varchar(20), false)",
    "SELECT public.set_config('phiproxy.end_user', 'x', false)",
    "SELECT set_config('phiproxy.end_user', (SELECT 'x'), false)",
    "SELECT set_config('phiproxy.end_user', 'x', random() > 0)",
    "SELECT upper(set_config('phiproxy.end_user', 'x', false))",
    "SELECT * FROM set_config('phiproxy.end_user', 'x', false)",
    "SELECT * FROM pg_class, LATERAL set_config('phiproxy.end_user', relname, false)",
    "VALUES (set_config('phiproxy.end_user', 'x', false))",
    "WITH w AS (SELECT set_config('phiproxy.end_user', 'x', false)) SELECT * FROM w",
    "SELECT set_config('phiproxy.end_user', 'x', false) UNION SELECT 'a'",
    "SELECT set_config(U&'phiproxy\\002eend_user', 'x', false), 2",
    "SELECT set_config(lower('PHIPROXY.END_USER'), 'x', false)",
    "SELECT set_config(setting_name => 'phiproxy.end_user', new_value => 'x', is_local => false)",
    "SELECT format('phiproxy.end_user', current_database())",
    "SELECT public.format('phiproxy.end_user', 'x')",
    "SELECT set_config(format('phiproxy.end_user'), 'x', false)",
    "CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION says('PhiProxy.end_user', 'x')",
    "CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION says('SET phiproxy.reason = 1')",
    "ALTER ROLE ALL SET phiproxy.end_user = 'x'",
    "ALTER ROUTINE f() SET phiproxy.end_user = 'x'",
    "CREATE PROCEDURE f() LANGUAGE plpgsql AS 'BEGIN SET LOCAL phiproxy.end_user = 1; END'",
    "CREATE MATERIALIZED VIEW v AS SELECT set_config('phiproxy.end_user', 'x', false)",
    "CREATE INDEX i ON log ((set_config('phiproxy.end_user', msg, false)))",
    "CALL my_set('phiproxy.reason', 'x')",
    "SELECT query_to_xml('SELECT set_config(''phiproxy.end_user'', ''x'', false)', true, false, '')",
    "INSERT INTO log (msg) VALUES (set_config('phiproxy.end_user', 'x', false))",
    "UPDATE pg_settings SET setting = 'x' WHERE name = 'phiproxy.end_user'",
    "WITH w AS (UPDATE pg_catalog.pg_settings SET setting = 'x' WHERE name = 'PhiProxy.End_User' RETURNING 1) SELECT 1",
    "EXPLAIN ANALYZE SELECT set_config('phiproxy.end_user', 'x', false)",
    "DECLARE c CURSOR FOR SELECT set_config('phiproxy.end_user', 'x', false)",
    "COPY (SELECT set_config('phiproxy.end_user', 'x', false)) TO STDOUT",
    "CREATE TABLE t AS SELECT set_config('phiproxy.end_user', 'x', false)",
    "SELECT set_config('phiproxy.end_user', 'x', false) INTO t",
    "CREATE VIEW v AS SELECT set_config('phiproxy.purpose', 'x', false), 1",
    "CREATE RULE r AS ON INSERT TO log DO ALSO SELECT upper(set_config('phiproxy.purpose', 'x', false))",
    "PREPARE p AS SELECT set_config('phiproxy.end_user', $1, false)",
    "EXECUTE p('phiproxy.end_user', 'x', false)",
    "EXPLAIN EXECUTE p('phiproxy.end_user', 'x', false)",
    "DO $$ BEGIN PERFORM set_config('phiproxy.end_user', 'x', false); END $$",
    "DO $$ BEGIN SET \"PhiProxy\" . \"end_user\" = 'x'; END $$",
    "DO $$ BEGIN EXECUTE 'SET phiproxy.end_user = ''x'''; END $$",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT set_config(''phiproxy.end_user'', ''x'', false)'",
    "CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT set_config('phiproxy.end_user', 'x', false); END",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql SET phiproxy.end_user = 'x' AS 'SELECT 1'",
    "ALTER FUNCTION f() SET phiproxy.end_user = 'x'",
    "ALTER FUNCTION f() SET phiproxy.reason FROM CURRENT",
    "ALTER ROLE app SET phiproxy.end_user = 'x'",
    "ALTER ROLE app IN DATABASE clinic SET PhiProxy.Reason TO 'x'",
    "ALTER DATABASE clinic SET phiproxy.end_user = 'x'",
    "ALTER SYSTEM SET phiproxy.end_user = 'x'",
    "ALTER ROLE app SET phiproxy.purpose = 'for Jane Doe'",
]


@pytest.mark.parametrize("text", PAST_THE_PROXY)
def test_every_other_way_is_refused(text: str) -> None:
    with pytest.raises(StatementRefused, match=r"is taken by the proxy|would change the session") as refused:
        planned(text)
    assert refused.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM log WHERE msg = current_setting('phiproxy.end_user', true)",
        "SHOW phiproxy.end_user",
        "CREATE POLICY p ON log USING (msg = current_setting('phiproxy.end_user'))",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT current_setting(''phiproxy.end_user'', true)'",
        "DO $$ BEGIN INSERT INTO log (msg) VALUES (current_setting('phiproxy.end_user')); END $$",
        "INSERT INTO log (msg) VALUES ('phiproxy.end_user')",
        "SELECT format('phiproxy.end_user', 'x')",
        "INSERT INTO log (msg) SELECT upper(msg) || pg_catalog.lower('phiproxy.end_user') FROM log",
        "CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION says('end_user')",
        "ALTER ROLE app RESET phiproxy.end_user",
        "ALTER ROLE app SET phiproxy.end_user TO DEFAULT",
        "ALTER ROLE app SET phiproxy.purpose = 'TREAT'",
        "SELECT set_config('app.x', 'phiproxy', false), set_config('app.' || 'y', 'x', false)",
    ],
)
def test_what_reads_or_ends_it_passes(text: str) -> None:
    assert fresh().script(text.encode(), VIEW).identity


def test_a_function_of_text_that_somebody_has_made_may_set_it() -> None:
    for setters in ({"format"}, {ANYTHING}):
        planner = Planner(PROTECTION, dataclasses.replace(CATALOG, setters=frozenset(setters)), full_ciphers())
        with pytest.raises(StatementRefused, match="is taken by the proxy"):
            planner.script(b"SELECT format('phiproxy.end_user', 'x')", VIEW)


def test_where_there_are_rules_no_name_is_computed() -> None:
    planner = Planner(dataclasses.replace(PROTECTION, access=AccessRules()), CATALOG, full_ciphers())
    for text in ("SELECT set_config('phiproxy.' || 'end_user', 'x', false)", "PREPARE p AS SELECT set_config($1, $2, false)"):
        with pytest.raises(StatementRefused, match="could say who acts"):
            planner.script(text.encode(), VIEW)
    # As pg_dump says it: pg_settings shows no setting of the proxy's.
    dump = b"SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'"
    assert planner.script(dump, VIEW).identity


@pytest.mark.parametrize("text", ["SET phiproxy.end_user = 7", "SET phiproxy.end_user = 'a', 'b'"])
def test_anything_but_one_string_is_refused(text: str) -> None:
    with pytest.raises(StatementRefused, match="is one string"):
        planned(text)


def test_marks_are_of_this_process_and_of_the_name() -> None:
    assert mark_of("dr.who") == WHO != mark_of("dr.whom")
    assert "who" not in WHO
