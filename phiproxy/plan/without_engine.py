"""What is said of a statement that would be split, where no engine is configured (``compute.engine: off``)."""

from typing import Final

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.result import Split

WITH_ENGINE: Final = "`compute.engine: embedded` would answer this."
"""The hint of such a refusal, behind the one that the analysis has."""


def refusal_of(split: Split) -> StatementRefused | ValueRefused:
    """Return what is said of a split statement where no engine is configured."""
    refused = split.refusal or StatementRefused("a part of this statement can only be computed over opened rows")
    refused.hint = WITH_ENGINE if not refused.hint else f"{refused.hint} {WITH_ENGINE}"
    return refused
