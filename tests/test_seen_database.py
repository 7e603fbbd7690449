"""Views of one database: a planner and a generation for each, the same for all who see the same."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from phiproxy.access.rules import AccessRules, BreakGlass, Memberships, Rule
from phiproxy.access.shows import DENY, read_show
from phiproxy.errors import ColumnMasked
from phiproxy.keys.key_service import KeyLimits
from phiproxy.keys.registry import Registry
from phiproxy.plan.named_statements import View
from phiproxy.policy.registry_layout import Layout
from phiproxy.session.state_parts import Acting
from phiproxy.tenant import Tenant
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.keys.fakes import FakeProvider

SSN, NOTES = ("public", "patients", "ssn"), ("public", "patients", "notes")
NONE: frozenset[tuple[str, str, str]] = frozenset()
RULES = AccessRules(
    rules=(
        Rule(("nurse",), frozenset({SSN}), NONE, read_show("last(4)")),
        Rule(("nurse", "temp"), frozenset({NOTES}), NONE, DENY),
    ),
    columns=frozenset({SSN, NOTES}),
    break_glass=BreakGlass(("nurse",), 60),
)
VIEW = View(PATH, "clinic", catalog_fresh=True)
SEARCH = b"SELECT id FROM patients WHERE ssn = $1"


@pytest.fixture
def tenant() -> Tenant:
    layout = Layout(PROTECTION.deployment, 1, {}, {})
    tenant = Tenant("", "clinic", cast("Registry", None), FakeProvider(), layout, KeyLimits(), 100)
    tenant.memberships = Memberships([("jane", "nurse")])
    tenant.plan(replace(PROTECTION, access=RULES), CATALOG)
    return tenant


def test_who_sees_everything_has_the_database_itself(tenant: Tenant) -> None:
    assert tenant.seen(Acting("clerk")) is tenant
    tenant.plan(PROTECTION, CATALOG)
    assert tenant.seen(Acting("nurse")) is tenant


def test_who_sees_the_same_shares_a_view(tenant: Tenant) -> None:
    nurse, jane, temp = (tenant.seen(Acting(role)) for role in ("nurse", "jane", "temp"))
    assert nurse is jane is nurse.seen(Acting("jane")) is not temp
    assert len({tenant.generation, nurse.generation, temp.generation}) == 3
    assert nurse.planner is not tenant.planner
    assert nurse.planner is nurse.planner
    with pytest.raises(ColumnMasked):
        nurse.planner.statement(SEARCH, (), VIEW)
    assert temp.planner.statement(SEARCH, (), VIEW).touches
    before, planner = nurse.generation, nurse.planner
    tenant.plan(replace(PROTECTION, access=RULES), CATALOG)
    assert nurse.generation == before + 1
    assert nurse.planner is not planner
    assert (nurse.opened, nurse.fence, nurse.unread_names) == (tenant.opened, tenant.fence, tenant.unread_names)


def test_roles_of_the_end_user_count(tenant: Tenant) -> None:
    assert tenant.seen(Acting("clerk", ("jane",))) is tenant.seen(Acting("nurse"))


def test_an_expired_token_shows_nothing(tenant: Tenant) -> None:
    seen = tenant.seen(Acting("clerk", expired=True))
    with pytest.raises(ColumnMasked, match="permission denied"):
        seen.planner.statement(b"SELECT ssn FROM patients", (), VIEW)


def test_a_reason_lifts_masks_and_not_what_is_denied(tenant: Tenant) -> None:
    assert tenant.may_lift(Acting("jane"))
    assert not tenant.may_lift(Acting("temp"))
    lifted = tenant.seen(Acting("jane", reason=True))
    assert lifted.planner.statement(SEARCH, (), VIEW).touches
    with pytest.raises(ColumnMasked):
        lifted.planner.statement(b"SELECT notes FROM patients", (), VIEW)
    assert tenant.seen(Acting("temp", reason=True)) is tenant.seen(Acting("temp"))


def test_an_overlay_is_seen_likewise(tenant: Tenant) -> None:
    nurse = tenant.seen(Acting("nurse"))
    assert nurse.overlay_of(tenant.planner).protection.masked
    assert not tenant.overlay_of(nurse.planner).protection.masked
