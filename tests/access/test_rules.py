"""Rules over sets of roles: the strictest holds, a rule that names the column before one that names its table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.access.rules import AccessRules, BreakGlass, Masked, Memberships, Rule, matches
from phiproxy.access.shows import DENY, NULL, OPEN, Show, read_show

SSN, NAME, NOTE = ("public", "patients", "ssn"), ("public", "patients", "name"), ("public", "visits", "note")
ALL = frozenset({SSN, NAME, NOTE})
PATIENTS = frozenset({SSN, NAME})
NOTHING: frozenset[tuple[str, str, str]] = frozenset()


def rules(*listed: Rule, default: Show = OPEN) -> AccessRules:
    return AccessRules(default, listed, ALL)


def test_patterns_of_names() -> None:
    assert matches("app_%", "app_web")
    assert matches("%", "")
    assert matches("a%c", "abc")
    assert not matches("app_%", "appXweb")
    assert not matches("app", "app_web")
    assert not matches("a.c", "abc")


def test_of_several_roles_the_strictest_holds() -> None:
    access = rules(
        Rule(("nurse",), frozenset({SSN}), NOTHING, read_show("last(4)")),
        Rule(("temp",), frozenset({SSN}), NOTHING, NULL),
        Rule(("doctor",), frozenset({SSN}), NOTHING, OPEN),
    )
    assert dict(access.decide(["nurse"])) == {SSN: Masked(read_show("last(4)"))}
    assert dict(access.decide(["nurse", "temp", "doctor"])) == {SSN: Masked(NULL)}
    assert access.decide(["doctor"]) == access.decide(["clerk"]) == frozenset()


def test_a_rule_that_names_the_column_goes_before_one_that_names_its_table() -> None:
    access = rules(
        Rule(("research",), NOTHING, PATIENTS, NULL),
        Rule(("research",), frozenset({NAME}), NOTHING, read_show("pseudonym")),
        Rule(("dba",), NOTHING, ALL, DENY),
    )
    assert dict(access.decide(["research"])) == {SSN: Masked(NULL), NAME: Masked(read_show("pseudonym"), "research")}
    assert dict(access.decide(["research", "dba"])) == {column: Masked(DENY) for column in ALL}


def test_columns_of_one_domain_are_shown_alike() -> None:
    listed = (Rule(("research",), NOTHING, PATIENTS, NULL), Rule(("nurse",), frozenset({NOTE}), NOTHING, read_show("pseudonym")))
    access = AccessRules(OPEN, listed, ALL, domains=(frozenset({NAME, NOTE}),))
    assert dict(access.decide(["research"])) == dict.fromkeys(ALL, Masked(NULL))
    assert dict(access.decide(["nurse"])) == dict.fromkeys((NAME, NOTE), Masked(read_show("pseudonym"), "nurse"))


def test_the_default_is_for_columns_without_a_rule() -> None:
    access = rules(Rule(("nurse",), frozenset({SSN}), NOTHING, OPEN), default=DENY)
    assert dict(access.decide(["nurse"])) == {NAME: Masked(DENY), NOTE: Masked(DENY)}
    assert access.decide(["other"]) == access.nothing


def test_who_may_break_the_glass() -> None:
    glass = BreakGlass(("nurse", "er_%"), 60)
    assert glass.allows(["x", "er_7"])
    assert not glass.allows(["doctor"])


def test_members_of_members() -> None:
    members = Memberships([("jane", "nurse"), ("nurse", "staff"), ("staff", "jane"), ("tom", "staff")])
    assert members.of("jane") == ("jane", "nurse", "staff")
    assert members.of("tom") == ("tom", "staff", "jane", "nurse")
    assert members.of("nobody") == ("nobody",)


ROLES = st.sampled_from(["a", "b", "ab", "c"])
SHOWS = st.sampled_from(["open", "deny", "null", "last(2)", "last(4)", "pseudonym", "fixed(x)"]).map(read_show)
RULES = st.builds(
    Rule,
    st.lists(st.sampled_from(["a", "b", "a%", "%"]), min_size=1, max_size=2).map(tuple),
    st.frozensets(st.sampled_from(sorted(ALL))),
    st.frozensets(st.sampled_from(sorted(ALL))),
    SHOWS,
)


def test_a_field_is_part_of_its_document_and_of_its_domain() -> None:
    """No default is for a field, and no rule about its document; with columns of its domain it is shown alike."""
    doc, field = ("public", "notes", "doc"), ("public", "notes", "doc$.ssn")
    listed = (Rule(("nurse",), frozenset({field}), NOTHING, read_show("last(4)")), Rule(("temp",), frozenset({SSN}), NOTHING, DENY))
    access = AccessRules(OPEN, listed, frozenset({SSN, doc}), frozenset({field}), (frozenset({SSN, field}),))
    assert dict(access.decide(["nurse"])) == dict.fromkeys((field, SSN), Masked(read_show("last(4)")))
    assert dict(access.decide(["temp"])) == dict.fromkeys((field, SSN), Masked(DENY))
    hidden = AccessRules(NULL, (), frozenset({doc}), frozenset({field}))
    assert dict(hidden.decide(["nurse"])) == {doc: Masked(NULL)}


@given(st.lists(RULES, max_size=5), SHOWS, st.lists(ROLES, unique=True, min_size=1), st.lists(ROLES, unique=True))
def test_another_role_with_a_rule_never_shows_more(listed: list[Rule], default: Show, own: list[str], more: list[str]) -> None:
    access = AccessRules(default, tuple(listed), ALL)
    one, both = dict(access.decide(own)), dict(access.decide([*own, *more]))
    for column in ALL:
        ruled = any(rule.names(role) and column in rule.columns | rule.inside for rule in listed for role in own)
        if ruled:
            before, after = one.get(column), both.get(column)
            assert (after.show if after else OPEN).restriction <= (before.show if before else OPEN).restriction
