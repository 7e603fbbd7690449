"""Generated cases: the same in every run; with PHIPROXY_EXPLORE=SECONDS others, for so long each test, and all that fail are told.

PHIPROXY_EXPLORED=FILE has them, and what became of all the others, appended to a file as they are found.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXPLORE = float(os.environ.get("PHIPROXY_EXPLORE", "0"))
_TOLD = os.environ.get("PHIPROXY_EXPLORED")
_SHOWN = 40
# A session that is broken fails in all that follows.
_MOST = 200
_EACH = 500
Case = TypeVar("Case")


def tell(text: str) -> None:
    """Append it to the file that PHIPROXY_EXPLORED names, if it does."""
    if _TOLD:
        with Path(_TOLD).open("a") as told:
            told.write(f"{text}\n")


def tried(cases: st.SearchStrategy[Case], examples: int, run: Callable[[Case], Mapping[str, int]]) -> Counter[str]:
    """Run so many cases, or for as long as is explored; return what became of them.

    Where nothing is explored, the first failure is shrunk and raised by hypothesis.

    Raises:
        AssertionError: of what was explored something has failed.
    """
    became: Counter[str] = Counter()
    if not EXPLORE:

        @settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(cases)
        def one(case: Case) -> None:
            became.update(run(case))

        one()
        return became
    end = time.monotonic() + EXPLORE
    failed: list[str] = []

    @settings(max_examples=_EACH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases)
    def another(case: Case) -> None:
        if time.monotonic() > end or len(failed) > _MOST:
            return
        became["examples"] += 1
        try:
            became.update(run(case))
        except Exception as error:  # whatever it is, it is told, and the next one is tried
            became["failed"] += 1
            failed.append(f"{type(error).__name__}: {error}\n  {case!r}")
            tell(f"FAILED {os.environ.get('PYTEST_CURRENT_TEST')}\n{failed[-1]}\n")

    while time.monotonic() < end and len(failed) <= _MOST:
        another()
    tell(f"{os.environ.get('PYTEST_CURRENT_TEST')}: {dict(became)}")
    assert not failed, f"{dict(became)}\n" + "\n".join(failed[:_SHOWN])
    return became


def enough(became: Mapping[str, int], kind: str, least: int) -> None:
    """Let more of them than that be of a kind: what is all refused, or all wrong, would prove nothing.

    How many are explored depends on the machine.
    """
    assert EXPLORE or became[kind] > least, became
