"""The contract of key providers, against Vault, OpenBao and LocalStack themselves."""

from __future__ import annotations

from tests.keys.providers.contract import Contract, TurnOver


class TestContract(Contract):
    """Of each."""


class TestTurnOver(TurnOver):
    """Each has versions."""
