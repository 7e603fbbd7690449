"""What is kept is bounded by number and size, and long texts do not drive out short ones."""

from __future__ import annotations

import pytest

from phiproxy.plan import plan_cache
from phiproxy.plan.plan_cache import PlanCache


def key(name: bytes, size: int = 8) -> tuple[bytes, int]:
    return name.ljust(size), 0


def test_what_was_used_longest_ago_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "MAX_PLANS", 2)
    plans: PlanCache[str] = PlanCache()
    plans.add(key(b"a"), "A")
    plans.add(key(b"b"), "B")
    assert plans.get(key(b"a")) == "A"
    plans.add(key(b"c"), "C")
    assert [plans.get(key(name)) for name in (b"a", b"b", b"c")] == ["A", None, "C"]


def test_long_texts_share_room_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "MAX_LONG_IN_ALL", 100_000)
    plans: PlanCache[str] = PlanCache()
    plans.add(key(b"short"), "S")
    for name in (b"a", b"b", b"b", b"c"):
        plans.add(key(name, 45_000), name.decode())
    assert [plans.get(key(name, 45_000)) for name in (b"a", b"b", b"c")] == [None, "b", "c"]
    assert plans.get(key(b"short")) == "S"


def test_a_giant_is_not_kept() -> None:
    plans: PlanCache[str] = PlanCache()
    plans.add(key(b"giant", plan_cache.MAX_LONG + 1), "G")
    assert plans.get(key(b"giant", plan_cache.MAX_LONG + 1)) is None
