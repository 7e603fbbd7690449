"""node-postgres: parameters, named statements, cursors, COPY streams, a pool; the program is node/dialogue.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness.clinic import Clinic

HERE = Path(__file__).parent / "node"
NODE, NPM = shutil.which("node"), shutil.which("npm")


@pytest.fixture(scope="module")
def program(pytestconfig: pytest.Config) -> Path:
    """The program beside the packages it needs, which are kept from run to run."""
    assert NPM is not None
    assert pytestconfig.cache is not None
    room = Path(pytestconfig.cache.mkdir("node"))
    for name in ("package.json", "dialogue.js"):
        shutil.copy(HERE / name, room)
    command = [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, f"the packages of node-postgres cannot be had:\n{done.stderr}"
    return room / "dialogue.js"


def told(program: Path, dsn: str, values: str) -> tuple[list[Any], list[Any]]:
    """Run the program; returns what it was told to what is understood, and to what is refused."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, program.name, dsn, values], cwd=program.parent, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr
    both: tuple[list[Any], list[Any]] = tuple(json.loads(done.stdout))
    return both


@pytest.mark.skipif(NODE is None or NPM is None, reason="this machine has no Node.js with npm")
def test_node_postgres(clinic: Clinic, program: Path) -> None:
    values = json.dumps([vars(clinic.new_patient()) for _ in range(6)])
    direct, _ = told(program, clinic.plain_dsn, values)
    proxied, refused = told(program, clinic.proxy_dsn, values)
    assert len(direct) == 33
    for one, other in zip(direct, proxied, strict=True):
        assert other == one
    assert [said[1] for said in refused[:3]] == ["0A000", "25P02", "0A000"]
    assert refused[3][4] == [{"count": "12"}]
    clinic.assert_twins_equal()
