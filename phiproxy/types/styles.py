"""The settings of a session that decide how values are spelled: DateStyle, TimeZone, IntervalStyle, bytea_output and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

_DATE_STYLES = {"iso": "ISO", "sql": "SQL", "postgres": "Postgres", "german": "German"}
_DATE_ORDERS = {
    **dict.fromkeys(("mdy", "us", "noneuro", "noneuropean"), "MDY"),
    **dict.fromkeys(("dmy", "euro", "european"), "DMY"),
    "ymd": "YMD",
}
_INTERVAL_STYLES = frozenset({"postgres", "postgres_verbose", "sql_standard", "iso_8601"})


@dataclass(frozen=True, slots=True)
class Styles:
    """How a session writes and reads values.

    ``date_style`` is ISO, SQL, Postgres or German, ``date_order`` MDY, DMY or YMD, ``time_zone`` what SHOW TimeZone says,
    ``interval_style`` and ``bytea_output`` in lower case.
    """

    date_style: str = "ISO"
    date_order: str = "MDY"
    time_zone: str = "UTC"
    interval_style: str = "postgres"
    bytea_output: str = "hex"
    extra_float_digits: int = 1

    CANONICAL: ClassVar[Styles]

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Styles:
        """Read the settings as the server reports them, names in any case; one that is absent has its canonical value.

        ValueError, text for the log, when a value is none that PostgreSQL reports.
        """
        lowered = {name.lower(): value for name, value in settings.items()}
        date_style, date_order = _date_style(lowered.get("datestyle", "ISO, MDY"))
        interval_style = lowered.get("intervalstyle", "postgres").lower()
        bytea_output = lowered.get("bytea_output", "hex").lower()
        if interval_style not in _INTERVAL_STYLES or bytea_output not in ("hex", "escape"):
            raise ValueError("IntervalStyle or bytea_output is none that PostgreSQL knows")
        zone = lowered.get("timezone", "UTC")
        return cls(date_style, date_order, zone, interval_style, bytea_output, int(lowered.get("extra_float_digits", "1")))


Styles.CANONICAL = Styles()


def _date_style(value: str) -> tuple[str, str]:
    style, order = "ISO", "MDY"
    for word in value.lower().replace(",", " ").split():
        if word in _DATE_STYLES:
            style = _DATE_STYLES[word]
        elif word in _DATE_ORDERS:
            order = _DATE_ORDERS[word]
        else:
            raise ValueError("DateStyle is none that PostgreSQL knows")
    return style, order
