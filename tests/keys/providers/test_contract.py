"""What every provider keeps, run against a real part of each."""

from __future__ import annotations

import pytest

from tests.keys.providers.contract import Contract, TurnOver
from tests.keys.providers.parts import SCHEMES


class TestContract(Contract):
    """Of all."""


@pytest.mark.parametrize("part", [s for s in SCHEMES if s != "rsa"], indirect=True)
class TestTurnOver(TurnOver):
    """Of those with versions; the other is in test_rsa."""
