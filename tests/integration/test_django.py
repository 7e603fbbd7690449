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
