"""A tenant's own planner and keys, and what it tells of doubtful ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import pytest
from structlog.testing import capture_logs

from phiproxy.crypto.keyring import DataKey
from phiproxy.errors import ProviderDenied, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.key_service import KeyLimits
from phiproxy.keys.registry import Registry
from phiproxy.plan.named_statements import View
from phiproxy.policy.registry_layout import Layout
from phiproxy.session.state_parts import Opening
from phiproxy.sql.values.uses import Store
from phiproxy.tenant import Tenant
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.keys.fakes import FakeProvider

LAYOUT = Layout(PROTECTION.deployment, 1, {}, {})


@pytest.fixture
def tenant() -> Tenant:
    found = Tenant("acme", "clinic", cast("Registry", None), FakeProvider(), LAYOUT, KeyLimits(), 100)
    found.plan(PROTECTION, CATALOG)
    return found


def test_its_plans_are_bound_to_its_name_and_change_as_one(tenant: Tenant) -> None:
    before, generation = tenant.planner, tenant.generation
    plan = before.statement(b"INSERT INTO patients (ssn) VALUES ($1)", (), View(PATH, "clinic", catalog_fresh=True))
    assert {use.column.tenant for use, *_ in plan.outputs if isinstance(use, Store)} == {"acme"}
    tenant.plan(PROTECTION, CATALOG)
    assert tenant.planner is not before
    assert tenant.generation == generation + 1


def test_each_execution_that_opened_values_under_a_doubtful_key_leaves_one_record(tenant: Tenant) -> None:
    bad = DataKey(7, "d:mrn", "acme", 1, b"k" * 32, "compromised")
    stale = DataKey(0xAB, "d:mrn", "acme", 1, b"k" * 32, "active", stale=True)
    with capture_logs() as told:
        for _ in range(2):
            for key in (bad, stale, bad):
                note = tenant._noticed("public.patients.ssn", key)
                assert note is not None
                note()
            opened = Counter(opening for opening in tenant.opened if isinstance(opening, Opening))
            tenant.opened.clear()
            tenant.audit(opened)
    column = {"column": "public.patients.ssn"}
    values = [
        {**column, "data_key": "00000007", "why": "compromised", "count": 2},
        {**column, "data_key": "000000ab", "why": "stale", "count": 1},
    ]
    assert [(line["database"], line["tenant"], line["values"]) for line in told] == [("clinic", "acme", values)] * 2


def test_with_an_audit_log_every_opening_is_noted(tenant: Tenant) -> None:
    good = DataKey(5, "d:mrn", "acme", 1, b"k" * 32, "active")
    assert tenant._noticed("public.patients.ssn", good) is None
    tenant.audited = True
    note = tenant._noticed("public.patients.ssn", good)
    assert note is not None
    assert tenant._noticed("public.patients.ssn", good) is note
    note()
    told = [(o.column, o.data_key, o.doubt) for o in tenant.opened if isinstance(o, Opening)]
    assert told == [("public.patients.ssn", 5, "")]


def test_what_cannot_be_renewed_or_rotated_is_told(tenant: Tenant) -> None:
    async def fails() -> None:
        raise ProviderUnavailable("no answer")

    tenant.keys.refresh_ahead = fails  # type: ignore[method-assign]
    with capture_logs() as told:
        asyncio.run(tenant.refresh_ahead())
        tenant.keys.warn(RootRow(3, "d:mrn", "acme", "data", 1, "active", ()), ProviderDenied("not allowed"))
    assert [line["why"] for line in told] == ["no answer", "not allowed"]
