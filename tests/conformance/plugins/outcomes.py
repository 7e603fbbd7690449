"""A pytest plugin for a foreign suite: writes each test's outcome, runs only the tests it is told to, and passes over classes.

Imported by name inside the suite's own process, where the package ``tests`` is the suite's: it must import nothing of ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

REPORT, ONLY, PASSED_OVER = "CONFORMANCE_REPORT", "CONFORMANCE_ONLY", "CONFORMANCE_PASSED_OVER"
RANK = ("passed", "skipped", "failed", "error")

_found: dict[str, list[str]] = {}
_passed_over: list[str] = [word.lower() for word in json.loads(os.environ.get(PASSED_OVER, "[]"))]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> list[pytest.Item] | None:
    """Make no items of classes that ``-k`` leaves out whole: of those with thousands of combinations that alone takes seconds.

    SQLAlchemy's plugin makes of each class one whose name goes on behind an underscore: an expression of ``-k`` may mean that.
    """
    left_out = isinstance(obj, type) and any(word in f"{name}_".lower() for word in _passed_over)
    return [] if left_out else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that are named, if any are. SQLAlchemy's plugin makes its items in this hook too: look after it."""
    only = json.loads(os.environ.get(ONLY, "null"))
    if only is not None:
        gone = [item for item in items if item.nodeid not in only]
        items[:] = [item for item in items if item.nodeid in only]
        config.hook.pytest_deselected(items=gone)


pytest_collection_modifyitems = pytest.hookimpl(trylast=True)(pytest_collection_modifyitems)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst that a test's setup, call, subtests and teardown said, with its last words."""
    outcome: str = report.outcome
    if report.failed and report.when != "call":
        outcome = "error"
    elif report.when != "call" and not report.skipped:
        return
    before = _found.get(report.nodeid)
    if before is None or RANK.index(outcome) > RANK.index(before[0]):
        _found[report.nodeid] = [outcome, report.longreprtext[-1500:] if outcome in ("failed", "error") else ""]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be read is an outcome too."""
    if report.failed:
        _found[report.nodeid] = ["error", report.longreprtext[-1500:]]


def pytest_sessionfinish() -> None:
    """Write what was found."""
    Path(os.environ[REPORT]).write_text(json.dumps(_found), encoding="utf-8")
