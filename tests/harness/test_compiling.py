"""Workers begin to compile at different modules, and each imports them all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.harness import compiling
from tests.harness.order import ROOT

NAMES = [f"tests.sql.test_{number}" for number in range(7)]


def test_each_worker_begins_at_its_part_and_takes_all() -> None:
    for count in (1, 2, 4, 9):
        turns = [compiling.in_turn(NAMES, number, count) for number in range(count)]
        assert all(sorted(turn) == NAMES for turn in turns)
        assert len({turn[0] for turn in turns}) == min(count, len(NAMES))


def config(**more: object) -> Any:
    given = {"invocation_params": SimpleNamespace(dir=ROOT), "getoption": lambda _: ["tests/harness"], "args": ["tests"]}
    return SimpleNamespace(**{**given, **more})


def test_only_workers_import_what_they_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(compiling, "import_module", imported.append)
    compiling.compile_in_turn(config())
    worker = {"workerid": "gw1", "workercount": 2}
    compiling.compile_in_turn(config(args=["tests/wire/test_messages.py::test_it"], workerinput=worker))
    assert imported == []
    compiling.compile_in_turn(config(workerinput=worker))
    assert "tests.wire.test_messages" in imported
    assert "tests.integration.test_types" in imported
    assert not any(name.startswith(("tests.harness.", "tests.applications.")) for name in imported)


def test_one_that_cannot_be_imported_is_left_to_who_collects_it(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    def fail(name: str) -> None:
        imported.append(name)
        pytest.skip("needs something") if len(imported) % 2 else exec("1 / 0")

    monkeypatch.setattr(compiling, "import_module", fail)
    compiling.compile_in_turn(config(args=["tests/wire"], workerinput={"workerid": "gw0", "workercount": 1}))
    assert len(imported) > 4
