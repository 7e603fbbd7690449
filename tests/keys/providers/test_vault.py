"""Vault beyond the contract: keys that are not derived, versions, denials, outages, and logins that end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from phiproxy.errors import ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys import vault as vault_module
from phiproxy.keys.provider import Context
from phiproxy.keys.remote import Breaker, CallLimits
from phiproxy.keys.vault import VaultProvider
from tests.keys.providers.transit import Key
from tests.keys.providers.vault_server import Token, VaultServer
from tests.net.serving import until

CONTEXT = Context("clinic", "d:mrn", "", "data", 1)
QUICK = CallLimits(connect=60.0, read=2.0, attempts=2, deadline=60.0, failures=3, rest=1.0)


def opener(server: VaultServer, options: str = "&token=env:TOKEN", path: str = "transit/phi") -> str:
    return f"vault:{path}?address={server.address}{options}"


def secrets_of(server: VaultServer) -> dict[str, str]:
    return {"env:TOKEN": "root", "env:ROLE": server.role_id, "env:SECRET": server.secret_id, "env:BAD": "bad"}


async def open_vault(server: VaultServer, options: str = "&token=env:TOKEN", path: str = "transit/phi") -> VaultProvider:
    server.transit.keys.setdefault("phi", Key("phi", derived=True))
    return await VaultProvider.open(opener(server, options, path), secrets_of(server).__getitem__, QUICK)


@pytest.fixture
async def provider(vault: VaultServer) -> AsyncIterator[VaultProvider]:
    found = await open_vault(vault)
    yield found
    await found.close()


async def test_only_a_derived_key_that_is_there_will_do(vault: VaultServer) -> None:
    vault.transit.keys["flat"] = Key("flat")
    with pytest.raises(ProviderMisconfigured, match="not a derived key"):
        await open_vault(vault, path="transit/flat")
    with pytest.raises(ProviderMisconfigured, match="knows no"):
        await open_vault(vault, path="transit/missing")
    assert "missing" not in vault.transit.keys
    with pytest.raises(ProviderMisconfigured, match="write vault:"):
        await open_vault(vault, path="nokey")
    with pytest.raises(ProviderMisconfigured, match="auth=token"):
        await open_vault(vault, "&auth=ldap")
    with pytest.raises(ProviderMisconfigured, match="not a URL"):
        await VaultProvider.open("vault:transit/phi?address=nowhere&token=env:T", lambda _r: "t", QUICK)


async def test_a_rotation_in_place_is_a_new_version(provider: VaultProvider, vault: VaultServer) -> None:
    root = os.urandom(32)
    old = await provider.wrap(root, CONTEXT)
    assert (old.version, await provider.version()) == ("1", "1")
    vault.transit.handle("POST", "keys/phi/rotate", {})
    assert await provider.version() == "2"
    new = await provider.rewrap(*old, CONTEXT)
    assert new.version == "2"
    assert vault.transit.keys["phi"].min_decryption == 1
    await provider.raise_min_decryption_version(2)
    assert vault.transit.keys["phi"].min_decryption == 2
    with pytest.raises(ProviderDenied):
        await provider.unwrap(*old, CONTEXT)
    assert await provider.unwrap(*new, CONTEXT) == root


async def test_a_root_key_of_vaults_randomness(provider: VaultProvider, vault: VaultServer) -> None:
    new = await provider.new_key(CONTEXT)
    assert ("POST", "transit/datakey/plaintext/phi") in vault.calls
    assert await provider.unwrap(*new.wrapped, CONTEXT) == new.secret


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(503, ProviderUnavailable), (500, ProviderUnavailable), (429, ProviderUnavailable), (502, ProviderUnavailable)],
)
async def test_an_answer_that_is_none_is_unavailable(
    provider: VaultProvider, vault: VaultServer, status: int, meaning: type[ProviderError]
) -> None:
    wrapped = await provider.wrap(os.urandom(32), CONTEXT)
    vault.status = status
    with pytest.raises(meaning):
        await provider.unwrap(*wrapped, CONTEXT)
    vault.status = None
    assert len(await provider.unwrap(*wrapped, CONTEXT)) == 32


async def test_a_slow_vault_is_waited_for_and_a_dead_one_is_not(provider: VaultProvider, vault: VaultServer) -> None:
    wrapped = await provider.wrap(os.urandom(32), CONTEXT)
    vault.delay = 0.3
    assert len(await provider.unwrap(*wrapped, CONTEXT)) == 32
    now, remote = [0.0], provider._remote
    remote.breaker = Breaker(QUICK.failures, QUICK.rest, lambda: now[0])
    remote.limits = replace(QUICK, attempts=1)
    vault.delay = 3.0
    for _ in range(QUICK.failures):
        with pytest.raises(ProviderUnavailable, match="does not answer"):
            await provider.unwrap(*wrapped, CONTEXT)
    calls = len(vault.calls)
    with pytest.raises(ProviderUnavailable, match="left alone"):
        await provider.unwrap(*wrapped, CONTEXT)
    vault.delay = 0.0
    now[0] += QUICK.rest
    assert len(await provider.unwrap(*wrapped, CONTEXT)) == 32
    assert len(vault.calls) >= calls


async def test_a_policy_that_forbids_a_path_is_a_denial(provider: VaultProvider, vault: VaultServer) -> None:
    wrapped = await provider.wrap(os.urandom(32), CONTEXT)
    vault.forbidden.add("decrypt/phi")
    with pytest.raises(ProviderDenied, match="denies"):
        await provider.unwrap(*wrapped, CONTEXT)


async def test_approle_and_kubernetes_log_in(vault: VaultServer, tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text(vault.service_account + "\n")
    for options in ("&role_id=env:ROLE&secret_id=env:SECRET", f"&role=phiproxy&jwt={tmp_path}/jwt"):
        provider = await open_vault(vault, options)
        assert await provider.version() == "1"
        await provider.close()
    with pytest.raises(ProviderDenied):
        await open_vault(vault, "&role_id=env:ROLE&secret_id=env:BAD")
    with pytest.raises(ProviderDenied):
        await open_vault(vault, f"&role=other&jwt={tmp_path}/jwt")
    with pytest.raises(ProviderMisconfigured, match="No such file"):
        await open_vault(vault, f"&role=phiproxy&jwt={tmp_path}/none")
    with pytest.raises(ProviderMisconfigured, match="role=NAME"):
        await open_vault(vault, "&auth=kubernetes")


async def test_a_token_is_renewed_while_nobody_asks(vault: VaultServer) -> None:
    vault.token_life = Token(life=6.0, renewable=True)
    provider = await open_vault(vault, "&role_id=env:ROLE&secret_id=env:SECRET")
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    await until(lambda: vault.calls.count(("POST", "auth/token/renew-self")) > 1, "it is not renewed")
    assert [c for c in vault.calls if c[1] == "auth/approle/login"] == [("POST", "auth/approle/login")]
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    await provider.close()


async def test_a_token_at_its_maximum_is_replaced_by_a_new_login(vault: VaultServer) -> None:
    vault.token_life = Token(life=2.0, max_life=3.0, renewable=True)
    provider = await open_vault(vault, "&role_id=env:ROLE&secret_id=env:SECRET")
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    vault.token_life = Token(life=3600.0, renewable=True)
    await asyncio.sleep(4.0)
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    assert len([c for c in vault.calls if c[1] == "auth/approle/login"]) >= 2
    await provider.close()


async def test_a_revoked_token_is_replaced_once(vault: VaultServer) -> None:
    provider = await open_vault(vault, "&role_id=env:ROLE&secret_id=env:SECRET")
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    vault.tokens = {"root": Token()}
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    vault.secret_id = "changed"
    vault.tokens = {"root": Token()}
    with pytest.raises(ProviderDenied):
        await provider.unwrap(*wrapped, CONTEXT)
    await provider.close()


async def test_a_token_file_that_an_agent_rewrites_is_read_again(vault: VaultServer) -> None:
    held = {"env:TOKEN": "first"}
    vault.tokens["first"] = Token(life=3600.0)
    vault.transit.keys["phi"] = Key("phi", derived=True)
    provider = await VaultProvider.open(opener(vault), lambda r: held[r], QUICK)
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    del vault.tokens["first"]
    vault.tokens["second"] = Token(life=3600.0)
    held["env:TOKEN"] = "second"
    assert await provider.unwrap(*wrapped, CONTEXT) == b"r" * 32
    await provider.close()


async def test_an_outage_while_a_token_is_due_is_got_over(vault: VaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "RENEW_AGAIN", 0.2)
    vault.token_life = Token(life=3.0, renewable=True)
    provider = await open_vault(vault, "&role_id=env:ROLE&secret_id=env:SECRET")
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    vault.status = 503
    await asyncio.sleep(2.5)
    vault.status = None
    opened, end = b"", time.monotonic() + 120
    while not opened:
        with suppress(ProviderUnavailable):  # as long as it is left alone
            opened = await provider.unwrap(*wrapped, CONTEXT)
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    assert opened == b"r" * 32
    await provider.close()
