"""A job of a kind that this version does not know is not begun."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from phiproxy.errors import ConfigError
from phiproxy.jobs.records import Job
from phiproxy.jobs.run_or_abort import KINDS, kind_of


def test_kinds() -> None:
    job = Job(1, "recrypt", "x", {}, "running", "ann", datetime.now(UTC))
    assert kind_of(job) is KINDS["recrypt"]
    unknown = Job(2, "shred", "x", {}, "running", "ann", datetime.now(UTC))
    with pytest.raises(ConfigError, match="job 2, shred x is of a kind that this version does not know"):
        kind_of(unknown)
