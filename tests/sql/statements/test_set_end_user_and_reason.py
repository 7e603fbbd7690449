"""SET phiproxy.end_user: the server gets a mark in place of the name."""

from __future__ import annotations

import pytest

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused
from phiproxy.plan.statement_plan import ScriptPlan
from phiproxy.sql.statements.set_end_user_and_reason import mark_of
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


OTHER_WAYS = ["RESET phiproxy.end_user", "SET phiproxy.end_user TO DEFAULT", "SELECT set_config('phiproxy.end_user', 'x', true)"]


@pytest.mark.parametrize("text", OTHER_WAYS)
def test_other_ways_to_change_it_are_asked_for(text: str) -> None:
    plan, effects = planned(text)
    assert (plan.identity, effects.end_user, effects.path_unknown) == (True, None, True)


@pytest.mark.parametrize("text", ["SET phiproxy.end_user = 7", "SET phiproxy.end_user = 'a', 'b'"])
def test_anything_but_one_string_is_refused(text: str) -> None:
    with pytest.raises(StatementRefused, match="is one string"):
        planned(text)


def test_marks_are_of_this_process_and_of_the_name() -> None:
    assert mark_of("dr.who") == WHO != mark_of("dr.whom")
    assert "who" not in WHO
