"""Django's migrations and models, the same directly and through the proxy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clinic import POLICY
from tests.harness.proxy import environment
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.django_project import STEPS
from tests.integration.migrating import pair


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    with open_site(postgres_server, tmp_path_factory.mktemp("django"), policy=POLICY, ddl="SELECT", planned=True) as site:
        yield site


def test_django_migrates_up_and_down(site: Site) -> None:
    program = Path(__file__).with_name("django_steps.py")
    with pair(site) as both:
        values = [both.oracle.plant("ssn"), both.oracle.plant("name"), both.oracle.plant()]
        told = []
        for host, port, database in (
            (site.server.host, site.server.port, site.plain),
            (site.proxy.host, site.proxy.port, site.sealed),
        ):
            command = [sys.executable, str(program), host, str(port), database, site.role, site.password, *values]
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            told.append(json.loads(done.stdout))
        assert told[0] == told[1]
        assert told[1][0][0][1:3] == values[:2]


RENAMED = POLICY.replace("notes:     {type: text, pad: 64}", "notes:     {type: text, pad: 64, renamed_to: remarks}")


@pytest.fixture(scope="module")
def renaming(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy says the other name that a column will have."""
    with open_site(postgres_server, tmp_path_factory.mktemp("project"), policy=RENAMED, ddl="SELECT", planned=True) as site:
        yield site


def test_a_project_makes_its_migrations(renaming: Site, tmp_path: Path) -> None:
    """AddField, AlterField, AddIndex, RenameField, AddConstraint, RemoveField and all of them backwards, as Django writes them."""
    site = renaming
    with pair(site) as both:
        values = [both.oracle.plant("ssn"), both.oracle.plant("name"), both.oracle.plant(), both.oracle.plant()[:20]]
        sides = {
            "plain": (site.server.host, str(site.server.port), site.plain),
            "proxy": (site.proxy.host, str(site.proxy.port), site.sealed),
        }
        for step in range(len(STEPS) + 1):
            told = [_step(tmp_path / side, str(step), *where, site.role, site.password, *values) for side, where in sides.items()]
            assert told[0] == told[1]
        made = "".join(path.read_text() for path in (tmp_path / "proxy/clinic/migrations").glob("0*.py"))
    for operation in ("AddField", "AlterField", "AddIndex", "RenameField", "AddConstraint", "RemoveConstraint", "RemoveField"):
        assert f"migrations.{operation}" in made


def _step(directory: Path, *arguments: str) -> object:
    directory.mkdir(exist_ok=True)
    program = Path(__file__).with_name("django_project.py")
    # Whether fields were renamed is asked for: every question is answered with yes.
    command = [sys.executable, str(program), *arguments]
    done = subprocess.run(command, env=environment(), cwd=directory, input="y\n" * 4, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])
