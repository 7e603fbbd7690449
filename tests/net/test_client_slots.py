"""Who is let in: one count of a process, one count of all workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiproxy.net.client_slots import ClientSlots, OwnSlots, SharedSlots

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shared() -> Iterator[SharedSlots]:
    """The page of three workers, seen by the first."""
    slots = SharedSlots.create(3)
    yield slots
    slots.close()


def another(slots: SharedSlots, index: int) -> SharedSlots:
    """Return what another worker sees, with a descriptor of its own."""
    return SharedSlots(os.dup(slots.descriptor), 3, index)


def test_no_more_than_the_limit(shared: SharedSlots) -> None:
    for slots in (OwnSlots(), shared):
        given: ClientSlots = slots
        assert [given.take(2) for _ in range(3)] == [True, True, False]
        given.give_back()
        assert given.take(2)
        assert not given.take(2)
        assert given.take(3)


def test_the_only_process_gives_way_to_nobody() -> None:
    slots = OwnSlots()
    assert slots.take(1)
    assert not slots.busier_than_others()


def test_workers_share_one_limit_and_see_who_is_busy(shared: SharedSlots) -> None:
    second = another(shared, 1)
    assert shared.take(2)
    assert second.take(2)
    assert not shared.take(2)
    assert shared.counts() == [1, 1, 0]
    assert shared.busier_than_others()
    shared.give_back()
    assert shared.counts() == [0, 1, 0]
    assert not shared.busier_than_others()
    assert second.busier_than_others()
    shared.forget(1)
    assert shared.counts() == [0, 0, 0]
    second.close()


TAKER = """
import sys
from phiproxy.net.client_slots import SharedSlots
slots = SharedSlots(int(sys.argv[1]), 3, int(sys.argv[2]))
print(sum(slots.take(1000) for _ in range(700)))
"""


def test_processes_at_the_same_time_never_exceed_the_limit(shared: SharedSlots) -> None:
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(shared.descriptor), str(n)],
            pass_fds=[shared.descriptor],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for n in range(3)
    ]
    taken = [int(taker.communicate(timeout=240)[0]) for taker in takers]
    assert sum(taken) == 1000
    assert shared.counts() == taken
