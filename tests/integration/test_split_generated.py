"""Random statements through a proxy with an engine: each answers as PostgreSQL does, or is refused; nothing leaks."""

from __future__ import annotations

import pytest

from tests.fixtures.grammar import over_expressions, statements
from tests.fixtures.grammar_computed import computed
from tests.fixtures.grammar_deep import deep_reads, deep_writes
from tests.fixtures.grammar_ranges import over_ranges
from tests.fixtures.grammar_recursive import recursive
from tests.fixtures.grammar_split import split_reads, split_writes
from tests.fixtures.grammar_typed import typed
from tests.fixtures.grammar_wide import wide_reads, wide_writes
from tests.fixtures.live import Twins
from tests.harness import explore
from tests.harness.explore import EXPLORE
from tests.integration.test_generated import tried

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 2 * EXPLORE)]


@pytest.fixture
def twins(kept_split_twins: Twins) -> Twins:
    """One seeded clinic for all cases, with an engine; the leak oracle at the end."""
    return kept_split_twins


def test_computed(twins: Twins) -> None:
    became = tried(twins, computed(), 150)
    explore.enough(became, "equal", 75)


def test_what_is_refused_without_an_engine(twins: Twins) -> None:
    became = tried(twins, statements(), 100)
    explore.enough(became, "equal", 40)


def test_over_indexed_expressions(twins: Twins) -> None:
    became = tried(twins, over_expressions(), 50)
    explore.enough(became, "equal", 25)


def test_ranges(twins: Twins) -> None:
    became = tried(twins, over_ranges(), 50)
    explore.enough(became, "equal", 25)


def test_recursive(twins: Twins) -> None:
    became = tried(twins, recursive(), 20)
    explore.enough(became, "equal", 10)


def test_larger_shapes(twins: Twins) -> None:
    became = tried(twins, split_reads(), 100)
    explore.enough(became, "equal", 60)


def test_writes(twins: Twins) -> None:
    became = tried(twins, split_writes(), 75)
    explore.enough(became, "equal", 30)


def test_typed_parameters(twins: Twins) -> None:
    became = tried(twins, typed(), 120)
    explore.enough(became, "equal", 40)


def test_deep_reads(twins: Twins) -> None:
    became = tried(twins, deep_reads(), 30)
    explore.enough(became, "equal", 20)


def test_deep_writes(twins: Twins) -> None:
    became = tried(twins, deep_writes(), 20)
    explore.enough(became, "equal", 7)


# What these find becomes a row of the fixtures.
explored_only = pytest.mark.skipif(not EXPLORE, reason="wider statements are explored only: PHIPROXY_EXPLORE=SECONDS")


@explored_only
def test_wide_reads(twins: Twins) -> None:
    became = tried(twins, wide_reads(), 60)
    explore.enough(became, "equal", 20)


@explored_only
def test_wide_writes(twins: Twins) -> None:
    became = tried(twins, wide_writes(), 40)
    explore.enough(became, "equal", 10)
