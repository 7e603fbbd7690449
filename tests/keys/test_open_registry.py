"""A registry as a configuration names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.open_registry import serving, trusted
from phiproxy.keys.registry_checked_on_read import Fault
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from tests.keys.fakes import DEPLOYMENT, Site
from tests.policy.build import make_policy


def settings_in(directory: Path, **keys: Any) -> Settings:
    return Settings.model_validate({"keys": keys}, context={"base": directory})


def policy() -> Policy:
    return make_policy({"public.patients": {"ssn": {"type": "text"}}}, deployment=DEPLOYMENT)


async def test_it_is_compared_with_what_was_kept_and_tells(site: Site, tmp_path: Path) -> None:
    await site.init()
    told: list[tuple[str, dict[str, Any]]] = []

    def tell(event: str, **fields: Any) -> None:
        told.append((event, fields))

    async with await site.connect() as conn:
        trust = serving(
            await trusted(conn, settings_in(tmp_path), policy(), site.provider), settings_in(tmp_path), policy(), tell, tell
        )
    assert [event for event, _ in told] == ["keys.anchor does not pin this registry: run phiproxy keys init"]
    trust.tell(Fault("row", "slot (1, 0)", "is missing"))
    assert told[-1][1] == {"database": policy().database, "kind": "row", "what": "slot (1, 0)", "why": "is missing"}
    async with site.registry(trust) as registry:
        await registry.layout()
    (counter,) = site.run("SELECT value FROM phiproxy.counter")[0]
    async with await site.connect() as conn:
        pinned = settings_in(tmp_path, anchor={policy().database: trust.key.anchor})
        assert (await trusted(conn, pinned, policy(), site.provider)).watermark.counter == counter


async def test_a_file_that_is_named_must_be_writable(site: Site, tmp_path: Path) -> None:
    await site.init()
    trust = await site.trust()
    named = settings_in(tmp_path, counter_file=str(tmp_path / "nowhere" / "counter.json"))
    with pytest.raises(ConfigError, match=r"keys\.counter_file: .*nowhere cannot be written"):
        serving(trust, named, policy(), print, print)


def test_where_the_counter_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert settings_in(tmp_path).counter_file == tmp_path / "registry-counter.json"
    assert settings_in(tmp_path, counter_file="c.json").counter_file == tmp_path / "c.json"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/phiproxy:/var/lib/other")
    assert settings_in(tmp_path).counter_file == Path("/var/lib/phiproxy/registry-counter.json")
