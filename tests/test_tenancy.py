"""A tenant's own planner and keys, and what it tells of doubtful ones."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from phiproxy.crypto.keyring import DataKey
from phiproxy.errors import ProviderDenied, ProviderUnavailable
from phiproxy.keys.registry import Registry
from phiproxy.keys.rows import RootRow
from phiproxy.keys.service import KeyLimits
from phiproxy.plan.cache import View
from phiproxy.policy.layout import Layout
from phiproxy.sql.meaning import Store
from phiproxy.tenancy import Tenant
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.keys.fakes import FakeProvider

LAYOUT = Layout(PROTECTION.deployment, 1, {}, {})


async def _nothing(_changed: bool) -> None:
    return None


@pytest.fixture
def tenant() -> Tenant:
    found = Tenant("acme", "clinic", cast("Registry", None), FakeProvider(), LAYOUT, KeyLimits(), 100, _nothing)
    found.plan(PROTECTION, CATALOG)
    return found


def test_its_plans_are_bound_to_its_name_and_change_as_one(tenant: Tenant) -> None:
    before, generation = tenant.planner, tenant.generation
    plan = before.statement(b"INSERT INTO patients (ssn) VALUES ($1)", (), View(PATH, "clinic", catalog_fresh=True))
    assert {use.column.tenant for use, *_ in plan.outputs if isinstance(use, Store)} == {"acme"}
    tenant.plan(PROTECTION, CATALOG)
    assert tenant.planner is not before
    assert tenant.generation == generation + 1
    assert "acme" in repr(tenant)


def test_a_doubtful_key_is_told_once_until_the_catalogue_is_read(tenant: Tenant) -> None:
    bad = DataKey(7, "d:mrn", "acme", 1, b"k" * 32, "compromised")
    stale = DataKey(8, "d:mrn", "acme", 1, b"k" * 32, "active", stale=True)
    with capture_logs() as told:
        for _ in range(2):
            tenant._noticed(bad)
            tenant._noticed(stale)
        tenant.plan(PROTECTION, CATALOG)
        tenant._noticed(bad)
    assert [(line["data_key"], line["why"]) for line in told] == [(7, "compromised"), (8, "stale"), (7, "compromised")]


def test_what_cannot_be_renewed_or_rotated_is_told(tenant: Tenant) -> None:
    async def fails() -> None:
        raise ProviderUnavailable("no answer")

    tenant.keys.refresh_ahead = fails  # type: ignore[method-assign]
    with capture_logs() as told:
        asyncio.run(tenant.refresh_ahead())
        tenant.keys.warn(RootRow(3, "d:mrn", "acme", "data", 1, "active", ()), ProviderDenied("not allowed"))
    assert [line["why"] for line in told] == ["no answer", "not allowed"]
