"""Fixtures of all tests; what they are made of lies in tests/harness."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog
from hypothesis import settings

from phiproxy.ops.stderr_to_log import Bridge
from tests.harness.clinic import DDL, POLICY, Clinic, watched_clinic
from tests.harness.clusters import PLACE, copy_clusters, kept_clusters
from tests.harness.compiling import compile_in_turn
from tests.harness.differential import Differential
from tests.harness.order import ModuleByModule, long_first, same_in_every_run
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer, running_server
from tests.harness.site import Site, open_site

# What is generated is the same in every run, and so is the order of tests, so that what fails is what was changed;
# PHIPROXY_EXPLORE looks at other values, in another order each time.
EXPLORES = bool(os.environ.get("PHIPROXY_EXPLORE"))
settings.register_profile("phiproxy", derandomize=not EXPLORES, deadline=None)
settings.load_profile("phiproxy")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Fix the order of tests before the plugin that shuffles draws one, and have clusters be made once for all processes of a run:
    workers inherit where they are kept.
    """
    if not EXPLORES:
        same_in_every_run(config.option)
    if PLACE in os.environ:
        copy_clusters()
    else:
        kept = ExitStack()
        kept.enter_context(kept_clusters())
        config.add_cleanup(kept.close)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let the collector of garbage pass over what lives as long as the run: thousands of tests, looked at each time."""
    gc.disable()
    try:
        compile_in_turn(session.config)
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have what takes long begin first, behind the plugin that shuffles."""
    if hasattr(config, "workerinput"):
        items[:] = long_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ModuleByModule | None:
    """Have modules that share a site be run by one worker."""
    return ModuleByModule(config, log) if config.getvalue("dist") == "loadfile" else None


# The proxies of sites that are there for the whole run, by the names of their fixtures, and the module that had each last.
SHARED: dict[str, tuple[ProxyUnderTest, str]] = {}
# The module of the test that is set up.
NOW = [""]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """Know the sites that are there for the whole run."""
    made = yield
    if fixturedef.scope == "session" and isinstance(made, Site):
        SHARED[fixturedef.argname] = made.proxy, NOW[0]  # what the module makes with it is undone behind its last test
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the proxies of these sites rest in modules that have no test of theirs; no garbage is sought in what others have left."""
    module = item.nodeid.partition("::")[0]
    if module != NOW[0]:
        # Tests that count sockets collect garbage, each: with what is cached of thousands of statements that takes half a second.
        gc.collect()
        gc.freeze()
    NOW[0] = module
    for name, (proxy, last) in SHARED.items():
        if name in getattr(item, "fixturenames", ()):
            SHARED[name] = proxy, module
            proxy.wake()
        elif module != last:
            SHARED[name] = proxy, ""
            proxy.rest()


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """Undo what a command that was run in this process has configured: its stream is pytest's, and closes with the test."""
    root = logging.getLogger()
    before = sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning
    level, raises = root.level, logging.raiseExceptions
    yield
    structlog.reset_defaults()
    sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = before
    root.setLevel(level)
    logging.raiseExceptions = raises
    for handler in [handler for handler in root.handlers if isinstance(handler, Bridge)]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run, logging everything it can; PHIPROXY_TEST_DSN names another."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def clinic_site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The clinic's two databases and its proxy, once for the whole run."""
    with open_site(postgres_server, tmp_path_factory.mktemp("clinic"), policy=POLICY, ddl=DDL) as site:
        yield site


@pytest.fixture
def clinic(clinic_site: Site) -> Iterator[Clinic]:
    """The clinic, empty; after the test the leak oracle searches everywhere."""
    with watched_clinic(clinic_site, of_many=True) as clinic:
        yield clinic


@pytest.fixture
def differential(clinic: Clinic) -> Iterator[Differential]:
    """One statement, both ways, on the seeded clinic."""
    clinic.seed()
    with Differential(clinic) as both:
        yield both
