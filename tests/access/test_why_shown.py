"""Why a role is shown what it is shown; that it agrees with what is decided is the point."""

from __future__ import annotations

from phiproxy.access.rules import AccessRules, ColumnName, Rule
from phiproxy.access.shows import DENY, NULL, read_show
from phiproxy.access.why_shown import reasons

SSN: ColumnName = ("public", "patients", "ssn")
MRN: ColumnName = ("public", "patients", "mrn")
NOTE_MRN: ColumnName = ("public", "notes", "mrn")
ALL = frozenset({SSN, MRN, NOTE_MRN})
RULES = AccessRules(
    rules=(
        Rule(("staff",), frozenset({SSN}), frozenset(), read_show("last(4)")),
        Rule(("research",), frozenset(), frozenset({SSN, MRN}), NULL),
        Rule(("dba",), frozenset(), ALL, DENY),
    ),
    columns=ALL,
    domains=(frozenset({MRN, NOTE_MRN}),),
)


def told(*own: str) -> dict[ColumnName, tuple[str, str]]:
    said = reasons(RULES, own)
    decided = dict(RULES.decide(own))
    assert {c: r.show for c, r in said.items() if not r.show.shows_all} == {c: m.show for c, m in decided.items()}
    return {column: (str(reason.show), reason.why) for column, reason in said.items()}


def test_the_rule_is_told_and_for_which_role() -> None:
    assert told("staff")[SSN] == ("last(4)", "rule 1 names it")
    assert told("nurse", "staff")[SSN] == ("last(4)", "rule 1 names it, as a member of staff")
    assert told("nurse", "staff", "dba")[SSN] == ("deny", "rule 3 names its table, as a member of dba")
    assert told("staff")[MRN] == ("open", "access.default: no rule names the role for it")


def test_columns_of_a_domain_are_told_as_they_are_shown() -> None:
    said = told("research")
    assert said[MRN] == ("null", "rule 2 names its table")
    assert said[NOTE_MRN] == ("null", "another column of its domain is shown so, and columns of one domain are shown alike")
