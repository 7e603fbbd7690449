"""Every fixture pair, on each version of PostgreSQL: the tests of ``tests/integration/test_fixtures.py`` on this room's servers."""

from __future__ import annotations

from tests.containers.services import skip_without_engine

skip_without_engine()  # before there are ten thousand tests of it
from tests.integration.test_fixtures import *  # noqa: E402, F403
