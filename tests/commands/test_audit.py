"""What an officer may give to ``phiproxy audit`` by mistake is said, and is no internal error."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from phiproxy.commands.audit import read_keys, read_time, wanted
from phiproxy.errors import ConfigError


def period(since: str | None, before: str | None) -> tuple[datetime | None, datetime | None]:
    asked = wanted(since, before, None, None, None, None, None)
    return asked.since, asked.before


def test_a_time_is_of_utc_or_of_the_zone_that_it_says() -> None:
    """On the day at which clocks are changed too: an hour that is there twice has two offsets."""
    assert read_time("2026-11-27") == datetime(2026, 11, 27, tzinfo=UTC)
    assert read_time("2026-10-25T02:30:00+02:00") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert read_time("2026-10-25T02:30:00+01:00") == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "2026-11-27T00:00+25:00", "0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a time"):
        period(text, None)


@pytest.mark.parametrize("before", ["2026-11-26", "2026-11-27", "2026-11-27T01:00+01:00"])
def test_a_period_in_which_nothing_can_be_is_refused(before: str) -> None:
    """Else a report of it would say that nothing needs a look."""
    with pytest.raises(ConfigError, match="is not before"):
        period("2026-11-27", before)
    assert period("2026-11-27", "2026-11-27T01:00")[1] == datetime(2026, 11, 27, 1, tzinfo=UTC)


@pytest.mark.parametrize("content", [b"", b" \n", b"\x7fELF\xff\xfe"])
def test_a_file_that_holds_no_key_is_said(tmp_path: Path, content: bytes) -> None:
    """Without a key nothing is genuine, and who reads that would think that the log was forged."""
    path = tmp_path / "audit.pub"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="holds no public key"):
        read_keys([str(path)])
