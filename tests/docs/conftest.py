"""Walks start where those of the commands do: a database with the clinic's tables, and a configuration for it."""

import asyncio

import pytest

from phiproxy import app
from phiproxy.plan.explanation import Explanation
from phiproxy.plan.explanation import explain as explain_plan
from phiproxy.plan.planner import Planner
from phiproxy.policy.load import load_settings
from phiproxy.sql.policy_files import load_policies
from tests.commands.conftest import clinic
from tests.docs.pages import Shell

__all__ = ["clinic"]


@pytest.fixture(scope="module")
def planner(shell: Shell) -> Planner:
    """What ``phiproxy explain`` plans with, made once for a page: the catalogue is read in a longer time than all is planned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", shell.env["PHIPROXY_SERVICE_PASSWORD"])
        settings = load_settings(shell.directory / "phiproxy.yaml")
        return asyncio.run(app.planner_without_keys(settings, load_policies(settings)[0]))


@pytest.fixture
def explain(planner: Planner, shell: Shell, request: pytest.FixtureRequest) -> Explanation:
    """What is said of a statement of a page, which is the parameter; the page's module has the ``shell``."""
    return explain_plan(planner, request.param.encode(), shell.database)
