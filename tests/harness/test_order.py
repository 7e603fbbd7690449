"""Every test is run once, modules stay together, what takes long comes first, and what shares a site goes to one worker."""

from __future__ import annotations

from argparse import Namespace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

from tests.harness.order import LONGEST, ROOT, SEED, long_first, same_in_every_run, together


def item(module: str, number: int, *, slow: bool = False) -> Any:
    return SimpleNamespace(nodeid=f"tests/{module}.py::test_{number}", get_closest_marker=lambda _: slow or None)


SHORT = [item(f"sql/test_{module}", number) for module in range(9) for number in range(7)]
LONG = [item(f"integration/test_{module}", number) for module in range(5) for number in range(4)]
SLOW = [item("keys/test_kill", number, slow=number == 1) for number in range(2)]
FIRST = [item(LONGEST[0].removeprefix("tests/").removesuffix(".py"), number) for number in range(3)]


def test_what_takes_long_comes_first() -> None:
    items = [*SHORT[:21], *LONG, *SHORT[21:], *FIRST, *SLOW]
    ordered = long_first(items)
    assert ordered == [*FIRST, *LONG, *SLOW, *SHORT]
    assert len(list(groupby(ordered, lambda each: each.nodeid.partition("::")[0]))) == 9 + 5 + 1 + 1


def test_the_longest_are_there() -> None:
    assert [path for path in LONGEST if not (ROOT / path).is_file()] == []


def test_what_shares_a_site_is_together() -> None:
    assert together("tests/integration/test_fixtures.py") == together("tests/integration/test_explain.py") == "all_twins"
    assert together("tests/integration/test_split_fixtures.py") == together("tests/integration/test_split_reads.py")
    assert together("tests/integration/test_split_wire.py") == "split_site"
    for alone in ("tests/integration/test_types.py", "tests/sql/split/test_both_ways.py"):
        assert together(alone) == alone


def test_the_order_is_the_same_in_every_run_unless_another_is_asked_for() -> None:
    for given, used in (("default", SEED), ("last", "last"), (7, 7)):
        option = Namespace(randomly_seed=given)
        same_in_every_run(option)
        assert option.randomly_seed == used
    without = Namespace()
    same_in_every_run(without)
    assert vars(without) == {}
