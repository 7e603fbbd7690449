"""Why a role is shown what it is shown of each column: by which rule of the policy, for which of its roles."""

from collections.abc import Sequence
from typing import NamedTuple

from phiproxy.access.rules import AccessRules, ColumnName
from phiproxy.access.shows import Show


class Reason(NamedTuple):
    """What is shown of a column, and why, for people."""

    show: Show
    why: str


def reasons(rules: AccessRules, own: Sequence[str]) -> dict[ColumnName, Reason]:
    """Return for each protected column, and each field that a rule is about, what these roles are shown.

    The first is the role itself, the others it is a member of. Rules are counted from 1, as they stand in the policy.
    """
    decided = dict(rules.decide(own))
    found: dict[ColumnName, Reason] = {}
    named_fields = {column for column in rules.fields if column in decided or any(column in rule.columns for rule in rules.rules)}
    for column in sorted(rules.columns | named_fields):
        masked, rule, role = rules.deciding(column, own)
        if rule is None:
            why = "access.default: no rule names the role for it" if column in rules.columns else "it is part of its document"
        else:
            member = "" if role == own[0] else f", as a member of {role}"
            named = "its table" if column not in rule.columns else "it"
            why = f"rule {rules.rules.index(rule) + 1} names {named}{member}"
        strictest = decided.get(column, masked)
        if strictest.show != masked.show:
            why = "another column of its domain is shown so, and columns of one domain are shown alike"
        found[column] = Reason(strictest.show, why)
    return found
