"""How a session's text is read as a date."""

from __future__ import annotations

import re

from phiproxy.types.calendar import days_in
from phiproxy.types.refused import NotReadExactly, field_overflow
from phiproxy.types.styles import Styles

_ISO = re.compile(rb"([0-9]{4,7})-([0-9]{1,2})-([0-9]{1,2})(?: +(AD|BC))?", re.IGNORECASE)
HINT = "write it as 2001-02-03"


def read_date(field: bytes, styles: Styles) -> tuple[bytes, tuple[int, int, int]]:
    """Return (``infinity`` or ``-infinity``, …) or (nothing, year, month and day)."""
    text = field.strip().lower()
    if text in (b"infinity", b"-infinity"):
        return text, (0, 0, 0)
    found = _ISO.fullmatch(text)
    if found is None:
        raise NotReadExactly("this spelling of type date is not read", hint=HINT)
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if found[4] == b"bc":
        year = 1 - year
    if not 1 <= month <= 12 or not 1 <= day <= days_in(year, month):
        raise field_overflow()
    return b"", (year, month, day)
