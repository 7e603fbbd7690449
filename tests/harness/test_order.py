"""Every test is run once, modules stay together, and each worker begins with what takes long."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tests.harness.order import long_first


def item(module: str, number: int, *, slow: bool = False) -> Any:
    return SimpleNamespace(nodeid=f"tests/{module}.py::test_{number}", get_closest_marker=lambda _: slow or None)


SHORT = [item(f"sql/test_{module}", number) for module in range(9) for number in range(7)]
LONG = [item(f"integration/test_{module}", number) for module in range(5) for number in range(4)]
SLOW = [item("keys/test_kill", number, slow=number == 1) for number in range(2)]


@pytest.mark.parametrize("workers", [1, 2, 3, 40])
def test_each_worker_begins_with_long_ones(workers: int) -> None:
    items = [*SHORT[:20], *LONG, *SHORT[20:], *SLOW]
    ordered = long_first(items, workers)
    assert sorted(map(id, ordered)) == sorted(map(id, items))
    assert [each for each in ordered if each in SHORT] == SHORT
    begins = [0]
    for worker in range(workers):
        begins.append(begins[-1] + (len(items) - begins[-1]) // (workers - worker))
    for begin, end in pairwise(begins):
        kinds = [each in SHORT for each in ordered[begin:end]]
        assert workers == 40 or kinds == sorted(kinds), "there, shares are shorter than modules"
    modules = [each.nodeid.partition("::")[0] for each in ordered if each not in SHORT]
    assert len({*modules}) == sum(1 for n, name in enumerate(modules) if n == 0 or modules[n - 1] != name)
