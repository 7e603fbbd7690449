"""Whether a proxy can serve: words without names, and each cause by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from phiproxy import readiness
from phiproxy.errors import ProviderDenied, ProviderUnavailable
from phiproxy.policy.model import Policy
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings, Upstream
from phiproxy.readiness import DENIED, REGISTRY, SERVER, SILENT, STARTING, UNRECORDED, Readiness
from phiproxy.sql.policy_files import load_policies
from tests.harness.gate import Gate
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.keys.fakes import FakeProvider
from tests.net.serving import bare_settings, site_settings, wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("ready"), rows=1) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


class AnyKek(FakeProvider):
    """Opens whatever it is shown, or fails as told."""

    def __init__(self) -> None:
        super().__init__("local:any")

    async def unwrap(self, blob: bytes, version: str, context: object) -> bytes:
        if self.fails is not None:
            raise self.fails("no")
        return bytes(32)

    def covers(self, kek_uri: str) -> bool:
        return kek_uri.startswith("local:")


def parts(site: Site) -> tuple[Settings, Policy]:
    settings = site_settings(site)
    return settings, load_policies(settings)[0]


async def close(ready: Readiness) -> None:
    for each in ready._databases:
        await each.server.close()


async def test_the_kek_is_asked_and_what_it_says_is_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "EVERY", 0.0)
    monkeypatch.setattr(readiness, "PER_ROOT", 0.0)
    settings, policy = parts(site)
    kek, told = AnyKek(), list[tuple[str, ...]]()
    ready = Readiness(settings.model_copy(update={"workers": 1}), [(policy, kek, None)], told.append)
    ready._keks_every = 0.0
    assert ready.reasons == (STARTING,)
    for fails, reasons in ((None, ()), (ProviderDenied, (DENIED,)), (ProviderUnavailable, (SILENT,)), (None, ())):
        kek.fails = fails
        await ready.look()
        await ready.look()
        assert ready.reasons == reasons
    assert told == [(), (DENIED,), (SILENT,), ()]
    await close(ready)


async def test_a_kek_is_not_asked_at_every_look(site: Site) -> None:
    settings, policy = parts(site)
    kek = AnyKek()
    ready = Readiness(settings, [(policy, kek, None)])
    await ready.look()
    kek.fails = ProviderDenied
    await ready.look()
    assert ready.reasons == ()
    await close(ready)


async def test_a_registry_that_may_not_be_read(site: Site) -> None:
    settings, policy = parts(site)
    service = settings.service.model_copy(update={"schema_": "nowhere"})
    ready = Readiness(settings.model_copy(update={"service": service}), [(policy, AnyKek(), None)])
    await ready.look()
    assert ready.reasons == (REGISTRY,)
    await close(ready)


async def test_a_server_that_is_away_with_a_policy_and_without(site: Site) -> None:
    settings, policy = parts(site)
    with Gate(site.server.host, site.server.port) as gate:
        upstream = Upstream(address=(Address(gate.host, gate.port),), tls="disable")
        ready = Readiness(settings.model_copy(update={"upstream": upstream}), [(policy, AnyKek(), None)])
        bare = Readiness(bare_settings(site.server, upstream={"address": f"{gate.host}:{gate.port}"}), [])
        for each in (ready, bare):
            await each.look()
            assert each.reasons == ()
        gate.shut()
        for each in (ready, bare):
            await each.look()
            assert each.reasons == (SERVER,)
        gate.open()
        for each in (ready, bare):
            await each.look()
            assert each.reasons == ()
        await close(ready)


async def test_clients_whose_way_is_another_than_the_service_logins(site: Site) -> None:
    """As through a pooler, which the service login goes round."""
    settings, policy = parts(site)
    with Gate(site.server.host, site.server.port) as gate:
        upstream = Upstream(address=(Address(gate.host, gate.port),), tls="disable")
        service = settings.service.model_copy(update={"address": settings.upstream.address[0]})
        ready = Readiness(settings.model_copy(update={"upstream": upstream, "service": service}), [(policy, AnyKek(), None)])
        await ready.look()
        assert not ready.reasons
        gate.shut()
        await ready.look()
        assert [*ready.reasons] == [SERVER]
        await close(ready)


async def test_where_nothing_takes_audit_records_it_is_not_ready(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "EVERY", 0.0)
    settings, policy = parts(site)
    recording = [True]
    ready = Readiness(settings, [(policy, AnyKek(), None)], recording=lambda: recording[0])
    for now, reasons in ((True, ()), (False, (UNRECORDED,)), (True, ())):
        recording[0] = now
        await ready.look()
        assert ready.reasons == reasons
    await close(ready)
