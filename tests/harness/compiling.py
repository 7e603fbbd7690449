"""The modules of tests, each compiled by one of the workers of a run: pytest rewrites their assertions, which takes longer than the
rest of what collects them, and keeps the result for the others.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from tests.harness.order import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def compile_in_turn(config: pytest.Config) -> None:
    """Import the modules of tests that are going to be collected, where this is a worker.

    Each begins at another one: all would else compile the same module at the same time, from the first to the last.
    """
    worker: dict[str, object] | None = getattr(config, "workerinput", None)
    if worker is None:
        return
    number, count = int(str(worker["workerid"]).removeprefix("gw")), int(str(worker["workercount"]))
    for name in in_turn(_names(config), number, count):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                import_module(name)
            except (Exception, pytest.skip.Exception):  # it is imported again as it is collected, and told there
                continue


def in_turn(names: list[str], number: int, count: int) -> list[str]:
    """Return the same names, beginning where the part of this worker does."""
    first = len(names) * number // count
    return [*names[first:], *names[:first]]


def _names(config: pytest.Config) -> list[str]:
    """Return the modules below the directories that are collected; the applications' tests are not ours."""
    left_out = [(config.invocation_params.dir / path).resolve() for path in config.getoption("ignore") or ()]
    left_out.append(ROOT / "tests" / "applications")
    found: set[Path] = set()
    for given in config.args:
        found.update((config.invocation_params.dir / given).resolve().rglob("test_*.py"))
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted(found)
        if ROOT in path.parents and not any(other in path.parents for other in left_out)
    ]
