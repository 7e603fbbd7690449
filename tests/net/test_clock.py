"""The clock of leases runs as the ordinary one does."""

from __future__ import annotations

import time

import pytest

from phiproxy.net import clock


def test_the_clock_goes_on() -> None:
    before, began = clock.now(), time.monotonic()
    time.sleep(0.02)
    assert clock.now() - before == pytest.approx(time.monotonic() - began, abs=0.5)
    assert clock.now() > before
