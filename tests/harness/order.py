"""In which order tests are run: what takes long first, so that no worker is left alone with it at the end."""

from __future__ import annotations

from itertools import chain, groupby, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

# Whole proxies, jobs over filled tables, servers of a test's own.
LONG = ("applications", "demo", "docker", "docs", "integration", "matrix")


def long_first(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order in which each worker's share, as ``--dist worksteal`` gives it out, begins with long ones.

    The tests of a module stay together, in their order: they share what is made for it. Who steals takes the end of a share.
    """
    modules = [list(tests) for _, tests in groupby(items, _module)]
    long = [tests for tests in modules if _is_long(tests)]
    short = chain.from_iterable(tests for tests in modules if not _is_long(tests))
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        share = (len(items) - len(ordered)) // (workers - worker)
        own = list(chain.from_iterable(long[worker::workers]))
        ordered += own
        ordered += islice(short, max(0, share - len(own)))
    return [*ordered, *short]


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _is_long(tests: Sequence[pytest.Item]) -> bool:
    _, directory, *_ = *tests[0].nodeid.split("/"), ""
    return directory in LONG or any(test.get_closest_marker("slow") for test in tests)
