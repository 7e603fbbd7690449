"""Which data keys ``recrypt`` means."""

from __future__ import annotations

import pytest

from phiproxy.errors import ConfigError
from phiproxy.jobs.recrypt import Choice, chosen_keys
from phiproxy.keys.compromise_retire import compromise
from phiproxy.keys.key_rows import DataKeyRow, RootRow
from tests.keys.fakes import DEPLOYMENT, Site

DAY = 86400.0


def key(state: str, age: float = 1.0, number: int = 7) -> DataKeyRow:
    return DataKeyRow(number, 1, 1, b"", state, 100, b"", age=age)  # type: ignore[arg-type]


def root(state: str = "active", tenant: str = "") -> RootRow:
    return RootRow(1, "t:public.patients", tenant, "data", 1, state, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (Choice(), {"decrypt_only", "compromised", "pending"}),
        (Choice(compromised=True), {"compromised"}),
        (Choice(older=0.5), {"active", "decrypt_only", "compromised", "pending"}),
        (Choice(older=DAY), set()),
        (Choice(keys=(7,)), {"active", "decrypt_only", "compromised", "pending"}),
        (Choice(keys=(8,)), set()),
        (Choice(scope="d:mrn"), set()),
        (Choice(tenant="acme"), set()),
    ],
)
def test_what_a_choice_means(choice: Choice, meant: set[str]) -> None:
    states = ("pending", "active", "decrypt_only", "compromised", "retired", "destroyed")
    assert {state for state in states if choice.takes(key(state), root())} == meant


def test_what_is_under_a_root_that_is_compromised_or_followed() -> None:
    assert Choice(compromised=True).takes(key("decrypt_only"), root("compromised"))
    assert Choice().takes(key("active"), root("decrypt_only"))
    assert Choice(tenant="acme").takes(key("decrypt_only"), root(tenant="acme"))


async def test_keys_of_the_registry(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        assert await chosen_keys(registry, Choice()) == {}
        scope_root = await registry.root_at("d:mrn", "", "data")
        assert scope_root is not None
        active = await registry.active_key(scope_root.id)
        assert active is not None
        await compromise(registry, site.provider, DEPLOYMENT, active.id, "a test", 1000)
        assert set(await chosen_keys(registry, Choice())) == {active.id}
        assert set(await chosen_keys(registry, Choice(compromised=True, scope="d:mrn"))) == {active.id}
        with pytest.raises(ConfigError, match="is not in the registry"):
            await chosen_keys(registry, Choice(keys=(1,)))
