"""Whether a KEK opens the root keys of a registry: each is asked for, and what concerns one tenant stops nobody else."""

from __future__ import annotations

from phiproxy.errors import ProviderDenied, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.tenant_keks import TenantKeks
from phiproxy.keys.unwrap_check import AT_ONCE, FIRST, Unopened, as_error, decisive, first, opening_roots, unopened
from tests.keys.fakes import DEPLOYMENT, FakeProvider, Site


async def roots_of(site: Site) -> list[RootRow]:
    async with await site.connect() as conn:
        return await opening_roots(conn, "phiproxy")


async def test_each_root_is_unwrapped(site: Site) -> None:
    await site.init()
    roots = await roots_of(site)
    site.provider.unwraps.clear()
    assert await unopened(site.provider, DEPLOYMENT, roots) == []
    assert {(c.scope, c.purpose) for c in site.provider.unwraps} == {(r.scope, r.purpose) for r in roots}
    assert len(roots) == 5, "two of each scope, and the registry key"


async def test_another_kek_opens_none_and_says_which(site: Site) -> None:
    await site.init()
    failed = await unopened(FakeProvider(), DEPLOYMENT, await roots_of(site))
    assert [type(each.error) for each in failed] == [ProviderDenied] * 5
    error = as_error(failed, "fake:kek")
    assert isinstance(error, ProviderDenied)
    assert "does not open the root keys of the registry" in error.message
    assert "of d:mrn, generation 1: not mine" in error.message
    assert error.hint is not None
    assert "keys rewrap --from" in error.hint


async def test_a_retired_root_is_not_asked_for(site: Site) -> None:
    await site.init()
    before = len(await roots_of(site))
    site.run("UPDATE phiproxy.root_key SET state = 'destroyed' WHERE id = 1")
    assert len(await roots_of(site)) == before - 1


async def test_who_does_not_answer_is_not_asked_for_every_key(site: Site) -> None:
    await site.init()
    site.provider.unwraps.clear()
    site.provider.fails = ProviderUnavailable
    roots = (await roots_of(site)) * 5
    failed = await unopened(site.provider, DEPLOYMENT, roots)
    assert len(failed) == len(site.provider.unwraps) == AT_ONCE
    assert isinstance(as_error(failed, "fake:kek"), ProviderUnavailable)


def test_an_older_generation_and_a_tenants_own_kek_do_not_stop_everybody() -> None:
    def root(state: str, tenant: str = "") -> RootRow:
        return RootRow(1, "d:mrn", tenant, "data", 1, state, ())  # type: ignore[arg-type]

    shared, own = FakeProvider(), FakeProvider()
    kek = TenantKeks(shared, {"acme": own})
    no = ProviderDenied("no")
    failed = [Unopened(root("decrypt_only"), no), Unopened(root("active", "acme"), no), Unopened(root("active", "other"), no)]
    assert decisive(failed, kek) == failed[2:]
    assert decisive(failed, shared) == failed[1:]


def test_of_very_many_those_that_most_need_are_asked_for_first() -> None:
    def root(number: int, tenant: str, state: str = "active") -> RootRow:
        return RootRow(number, "d:mrn", tenant, "data", 1, state, ())  # type: ignore[arg-type]

    tenants = [root(n, f"t{n}") for n in range(1000)]
    chosen = first([root(2000, "", "decrypt_only"), *tenants, root(3000, "")])
    assert len(chosen) == FIRST
    assert [r.id for r in chosen[:3]] == [3000, 0, 1]
    assert len(first([root(2000, "", "decrypt_only"), root(1, "")])) == 2
