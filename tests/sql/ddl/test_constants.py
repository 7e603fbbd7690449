"""Constants of constraints: read only where every session would read the same."""

from __future__ import annotations

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.sql.ddl.constants import READ, canonical


@pytest.mark.parametrize(
    ("kind", "text", "read"),
    [
        ("bool", "TRUE", "t"),
        ("bytea", r"\xAB", r"\xab"),
        ("date", "2001-02-03", "2001-02-03"),
        ("time", "24:00", "24:00:00"),
        ("timestamp", "2001-02-03T04:05:06.50", "2001-02-03 04:05:06.5"),
        ("timestamptz", "2001-02-03 04:05+05:30", "2001-02-02 22:35:00+00"),
        ("uuid", "A" * 8 + "-0000-0000-0000-" + "0" * 12, "a" * 8 + "-0000-0000-0000-" + "0" * 12),
    ],
)
def test_read(kind: str, text: str, read: str) -> None:
    assert canonical(kind, text) == read


@pytest.mark.parametrize("text", ["", "now", "1/2/2001", "2001-2-3", "2001-02-30", "12:61", "infinity", "epoch", "yes "])
def test_not_read(text: str) -> None:
    for kind in READ:
        with pytest.raises((ValueError, ValueRefused)):
            canonical(kind, text)
