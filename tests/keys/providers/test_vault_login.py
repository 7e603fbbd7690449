"""Which login is meant, when a token is due, and what happens at its end; on a clock moved by hand, with a real client."""

from __future__ import annotations

import hvac
import pytest
from hvac.exceptions import Forbidden

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.parsed_kek_uri import parse_kek_uri
from phiproxy.keys.vault_login import Credentials, Login, credentials
from tests.keys.fakes import Clock
from tests.keys.providers.vault_server import Token, VaultServer


def read(options: str, **secrets: str) -> Credentials:
    held = {f"env:{name}": value for name, value in secrets.items()}
    return credentials(parse_kek_uri(f"vault:transit/phi{options}", held.__getitem__))


def test_the_login_follows_from_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ROLE_ID", raising=False)
    token = read("", VAULT_TOKEN="t")
    assert (token.method, token.token()) == ("token", "t")
    approle = read("?role_id=env:R&secret_id=env:S&auth_mount=apps", R="r", S="s")
    assert (approle.method, approle.role, approle.secret(), approle.mount) == ("approle", "r", "s", "apps")
    assert read("?role=phi").method == "kubernetes"
    assert read("?role=phi&auth=token", VAULT_TOKEN="t").method == "token"
    monkeypatch.setenv("VAULT_ROLE_ID", "r")
    assert read("", VAULT_ROLE_ID="r", VAULT_SECRET_ID="s").method == "approle"
    with pytest.raises(ProviderMisconfigured, match="role=NAME"):
        read("?auth=kubernetes")
    with pytest.raises(ProviderMisconfigured, match="approle or kubernetes"):
        read("?auth=userpass")


def login(vault: VaultServer, clock: Clock) -> Login:
    client = hvac.Client(url=vault.address, token="")
    held = {"env:R": vault.role_id, "env:S": vault.secret_id}
    uri = parse_kek_uri("vault:transit/phi?role_id=env:R&secret_id=env:S", held.__getitem__)
    return Login(client, credentials(uri), clock)


def test_a_token_is_due_when_a_third_of_its_life_is_left(vault: VaultServer, clock: Clock) -> None:
    vault.token_life = Token(life=300.0, renewable=True)
    found = login(vault, clock)
    assert found.renew_in() is None
    first = found.ensure()
    assert found.renew_in() == pytest.approx(200.0, abs=1)
    clock.now += 250
    assert found.renew_in() == 0.0
    found.renew()
    assert found.ensure() == first
    assert found.renew_in() == pytest.approx(200.0, abs=2)


def test_a_token_that_is_not_carried_further_is_replaced(vault: VaultServer, clock: Clock) -> None:
    vault.token_life = Token(life=300.0, renewable=False)
    found = login(vault, clock)
    first = found.ensure()
    found.renew()
    assert found.ensure() != first


def test_of_many_who_were_forbidden_one_logs_in(vault: VaultServer, clock: Clock) -> None:
    found = login(vault, clock)
    first = found.ensure()
    assert found.again(first)
    second = found.ensure()
    assert found.again(first)
    assert found.ensure() == second
    vault.status = 403
    with pytest.raises(Forbidden):
        found.again(second)


def test_a_root_token_does_not_end(vault: VaultServer, clock: Clock) -> None:
    client = hvac.Client(url=vault.address, token="")
    uri = parse_kek_uri("vault:transit/phi?token=env:T", {"env:T": "root"}.__getitem__)
    found = Login(client, credentials(uri), clock)
    assert found.ensure() == "root"
    assert found.renew_in() is None
    assert not found.again("root")
