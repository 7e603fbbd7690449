"""The way in: whose registry key is believed, with an anchor and without."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.keys.anchoring import unlock
from phiproxy.keys.lifecycle import init
from phiproxy.keys.parsed_kek_uri import parse_kek_uri
from phiproxy.keys.rsa import RsaProvider, padding_of
from tests.keys.fakes import DEPLOYMENT, MRN, FakeProvider, Site
from tests.keys.rotator import no_secrets

OTHER = "reg1-" + "0" * 64


class Public(FakeProvider):
    """A KEK that anybody can wrap under."""

    authenticates = False


async def anchor_of(site: Site) -> str:
    return (await site.trust()).key.anchor


async def test_init_says_what_to_pin_and_keeps_to_it(site: Site) -> None:
    async with await site.connect() as conn:
        made = await init(conn, [MRN], DEPLOYMENT, site.provider)
    assert made.anchor == await anchor_of(site)
    async with await site.connect() as conn:
        assert (await init(conn, [MRN], DEPLOYMENT, site.provider, anchor=made.anchor)).done == []
        with pytest.raises(NotAuthentic, match=r"another one than keys\.anchor pins"):
            await init(conn, [MRN], DEPLOYMENT, site.provider, anchor=OTHER)


async def test_a_kek_that_anybody_can_wrap_under_needs_an_anchor(site: Site) -> None:
    site.provider = Public()
    async with await site.connect() as conn:
        made = await init(conn, [MRN], DEPLOYMENT, site.provider)
    async with await site.connect() as conn:
        with pytest.raises(ConfigError, match="anybody can wrap a registry key") as caught:
            await unlock(conn, "phiproxy", DEPLOYMENT, site.provider, None)
    assert caught.value.hint is not None
    assert made.anchor in caught.value.hint
    async with await site.connect() as conn:
        with pytest.raises(ConfigError, match="anybody can wrap a registry key"):
            await init(conn, [MRN], DEPLOYMENT, site.provider)
    async with await site.connect() as conn:
        assert (await unlock(conn, "phiproxy", DEPLOYMENT, site.provider, made.anchor)).anchor == made.anchor


async def test_a_registry_that_was_dropped_is_not_made_anew_under_its_anchor(site: Site) -> None:
    await site.init()
    anchor = await anchor_of(site)
    site.run("DROP SCHEMA phiproxy CASCADE")
    async with await site.connect() as conn:
        with pytest.raises(NotAuthentic, match="there is no registry"):
            await init(conn, [MRN], DEPLOYMENT, site.provider, anchor=anchor)
    assert site.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)]


async def test_a_registry_that_has_lost_its_key_is_not_given_another(site: Site) -> None:
    await site.init()
    site.run("DELETE FROM phiproxy.root_wrap WHERE root_id = (SELECT id FROM phiproxy.root_key WHERE purpose = 'registry')")
    site.run("DELETE FROM phiproxy.root_key WHERE purpose = 'registry'")
    async with await site.connect() as conn:
        with pytest.raises(NotAuthentic, match="lost its registry key"):
            await unlock(conn, "phiproxy", DEPLOYMENT, site.provider, None)
    with pytest.raises(NotAuthentic, match="lost its registry key"):
        await site.init()


async def test_which_keks_say_who_wrapped() -> None:
    public = generate_private_key(65537, 2048).public_key()
    rsa = RsaProvider(parse_kek_uri("rsa:kek.pem", no_secrets), public, None, padding_of("sha256"))
    assert not rsa.authenticates
    assert FakeProvider().authenticates
