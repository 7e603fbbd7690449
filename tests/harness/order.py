"""In which order modules are run, and by whom: what takes long first, and what shares a site by one worker.

``--dist loadfile --no-loadscope-reorder`` hands modules out one after the other, to whichever worker has done its own.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import pytest

ROOT = Path(__file__).parents[2]
# Of the shuffling of tests, where the command line says no other.
SEED = 1
# Each of their modules takes a worker minutes.
LONGEST = (
    "tests/integration/test_split_write_fixtures.py",
    "tests/integration/test_fixtures.py",
    "tests/integration/test_whole_life.py",
    "tests/integration/test_applications_meanwhile.py",
    "tests/integration/test_dependents.py",
    "tests/integration/test_audit_log.py",
    "tests/integration/test_document_fields.py",
    "tests/integration/test_added_fields.py",
    "tests/integration/test_demo.py",
    "tests/integration/test_memory.py",
    "tests/matrix/test_matrix.py",
)
# Whole proxies, jobs over filled tables, servers of a test's own.
LONG = ("applications", "demo", "docker", "docs", "integration", "matrix")
# Fixtures of tests/integration/conftest.py whose sites take seconds to make, and are made once for all modules of a worker.
SHARED = {
    "all_twins": re.compile(r"\bkept_twins\b"),
    "all_split_twins": re.compile(r"\bkept_split_twins\b|\bkept_both\b"),
    "split_site": re.compile(r"\bsplit_clinic\b"),
}


def long_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order in which their modules are to be handed out.

    The tests of a module stay together, in their order: they share what is made for it.
    """
    modules = [list(tests) for _, tests in groupby(items, _module)]
    modules.sort(key=_rank)
    return list(chain.from_iterable(modules))


def same_in_every_run(option: argparse.Namespace) -> None:
    """Have tests be shuffled alike in every run, as what is generated is the same: what fails is then what was changed.

    Of another order each time, one that makes a test fail comes by chance, in a run that has changed something else.
    """
    if getattr(option, "randomly_seed", None) == "default":
        option.randomly_seed = SEED


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _rank(tests: Sequence[pytest.Item]) -> int:
    module = _module(tests[0])
    if module in LONGEST:
        return LONGEST.index(module)
    _, directory, *_ = *module.split("/"), ""
    long = directory in LONG or any(test.get_closest_marker("slow") for test in tests)
    return len(LONGEST) + (0 if long else 1)


@cache
def together(module: str) -> str:
    """Return what a module is handed out with: itself, or all that has tests on the same shared site."""
    text = (ROOT / module).read_text() if module.startswith("tests/integration/") else ""
    return next((site for site, used in SHARED.items() if used.search(text)), module)


class ModuleByModule(LoadFileScheduling):  # type: ignore[misc]
    """Hands out modules, and those that share a site as if they were one: else each worker would make that site."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid.partition("::")[0])
