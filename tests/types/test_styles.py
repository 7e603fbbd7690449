"""The settings of a session, as the server reports them."""

from __future__ import annotations

import pytest

from phiproxy.types.styles import Styles


def test_the_canonical_ones_are_the_default() -> None:
    assert Styles.of({}) == Styles.CANONICAL == Styles("ISO", "MDY", "UTC", "postgres", "hex", 1)


def test_what_a_server_reports() -> None:
    reported = {
        "DateStyle": "Postgres, DMY",
        "TimeZone": "Europe/Berlin",
        "IntervalStyle": "sql_standard",
        "bytea_output": "escape",
        "extra_float_digits": "-3",
    }
    assert Styles.of(reported) == Styles("Postgres", "DMY", "Europe/Berlin", "sql_standard", "escape", -3)


@pytest.mark.parametrize("wrong", [{"datestyle": "ISO, XYZ"}, {"intervalstyle": "x"}, {"bytea_output": "base64"}])
def test_what_none_reports(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="none that PostgreSQL knows"):
        Styles.of(wrong)
