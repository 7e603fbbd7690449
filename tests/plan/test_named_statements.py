"""Names within one string of statements: each statement finds what the ones before it have made."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError
from tests.sql.ask import PLANNER, VIEW

PREPARE = "PREPARE s AS SELECT ssn FROM patients"
DECLARE = "DECLARE c CURSOR FOR SELECT ssn FROM patients"


def touched(text: str) -> list[bool]:
    """Return which statements of a string touch something protected."""
    return [part.touches for part in PLANNER.script(text.encode(), VIEW).parts or ()]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (f"{PREPARE}; EXECUTE s", True),
        (f"{PREPARE}; DEALLOCATE s; EXECUTE s", False),
        (f"{PREPARE}; DEALLOCATE t; EXECUTE s", True),
        (f"{PREPARE}; DEALLOCATE ALL; EXECUTE s", False),
        (f"{PREPARE}; DEALLOCATE s; PREPARE s AS SELECT 1; EXECUTE s", False),
        (f"{DECLARE}; FETCH c", True),
        (f"{DECLARE}; CLOSE c; FETCH c", False),
        (f"{DECLARE}; CLOSE ALL; FETCH c", False),
        (f"{DECLARE}; DISCARD ALL; FETCH c", False),
        (f"{DECLARE}; CLOSE c; DECLARE c CURSOR FOR SELECT 1; FETCH c", False),
    ],
)
def test_in_the_order_of_the_string(text: str, last: bool) -> None:
    assert touched(text)[-1] is last


def test_who_has_no_session_knows_no_names() -> None:
    assert VIEW.names is None
    assert touched("EXECUTE s; FETCH c") == [False, False]
    with pytest.raises(PhiproxyError):
        PLANNER.script(b"EXECUTE s('x')", VIEW)
