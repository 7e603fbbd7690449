"""The comparison sees a difference where there is one, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.conformance import outcomes
from tests.conformance.outcomes import Outcome, Outcomes, Suite, count, describe, differences, differing
from tests.conformance.plugins.outcomes import PASSED_OVER

FILE = """\
import os, unittest

class TestIt(unittest.TestCase):
    def test_passes(self): pass
    def test_fails(self): assert 0, "its last words"
    def test_skips(self): self.skipTest("not here")
    def test_depends(self): assert os.environ["WAY"] == "direct"

class TestSetup(unittest.TestCase):
    def setUp(self): raise OSError("no server")
    def test_never(self): pass
    def tearDown(self): pass

class TestOver(unittest.TestCase):
    def test_is_passed_over(self): pass

class TestOverThere(unittest.TestCase):
    def test_is_not(self): pass
"""


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Suite]:
    path = tmp_path_factory.mktemp("suite")
    (path / "test_it.py").write_text(FILE)
    direct, proxied = ({"WAY": way, PASSED_OVER: '["TestOver_"]'} for way in ("direct", "proxied"))
    return Suite(path, ["test_it.py"], direct), Suite(path, ["test_it.py"], proxied)


@pytest.fixture(scope="module")
def found(suites: tuple[Suite, Suite], tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcomes, Outcomes]:
    """What both say when all of them is run, which takes a process each."""
    direct, proxied = (suite.run(tmp_path_factory.mktemp("found") / "report.json") for suite in suites)
    return direct, proxied


def test_a_suite_tells_what_came_of_each_test(found: tuple[Outcomes, Outcomes]) -> None:
    direct, proxied = found
    assert {test.split("::", 1)[1]: outcome.verdict for test, outcome in direct.items()} == {
        "TestIt::test_passes": "passed",
        "TestIt::test_fails": "failed",
        "TestIt::test_skips": "skipped",
        "TestIt::test_depends": "passed",
        "TestSetup::test_never": "failed",
        "TestOverThere::test_is_not": "passed",
    }
    assert "its last words" in direct["test_it.py::TestIt::test_fails"].words
    assert count(direct, "passed") == 3
    assert differing(direct, proxied) == ["test_it.py::TestIt::test_depends"]


def test_a_difference_that_stays_is_named(
    suites: tuple[Suite, Suite], found: tuple[Outcomes, Outcomes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "ATTEMPTS", 1)  # each takes two processes
    direct, proxied = (partial(suite.run, tmp_path / "report.json") for suite in suites)
    stays = differences(*found, (direct, proxied))
    assert list(stays) == ["test_it.py::TestIt::test_depends"]
    assert "passed directly, failed through the proxy" in describe(stays)


def test_a_difference_that_does_not_stay_is_said_and_forgiven(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Sequence[str] | None] = []

    def again(only: Sequence[str] | None) -> Outcomes:
        asked.append(only)
        return {test: Outcome("passed") for test in only or ()}

    direct = {"a": Outcome("passed"), "b": Outcome("passed")}
    assert differences(direct, {"a": Outcome("passed"), "b": Outcome("failed")}, (again, again)) == {}
    assert asked == [["b"], ["b"]]
    assert "unsteady: b" in capsys.readouterr().out
    assert list(differences(direct, {"a": Outcome("failed"), "b": Outcome("failed")}, (again, again), steady=("a",))) == ["a"]


def test_a_test_that_is_missing_differs() -> None:
    assert differing({"a": Outcome("passed")}, {}) == ["a"]
    assert differing({}, {"a": Outcome("passed")}) == ["a"]


def test_a_suite_that_cannot_start_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="did not end"):
        Suite(tmp_path, ["--no-such-option"]).run(tmp_path / "report.json")
