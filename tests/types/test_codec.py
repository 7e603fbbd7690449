"""The functions of types that no setting and no typmod changes."""

from __future__ import annotations

from phiproxy.types.codec import as_is, as_text, unlimited
from phiproxy.types.styles import Styles


def test_nothing_changes() -> None:
    assert as_is(b"x") == as_text(b"x", Styles.CANONICAL) == unlimited(b"x", 7) == b"x"
