"""Failures have the SQLSTATE that the client is told, and no value in any text."""

from __future__ import annotations

import pytest

from phiproxy.engine.failures import (
    EngineDisagrees,
    EngineFull,
    EngineTimeout,
    EngineUnavailable,
    LimitExceeded,
    failure,
)
from phiproxy.errors import StatementFailed

FIELDS = [(83, b"ERROR"), (67, b"22P02"), (77, b'invalid input syntax for type integer: "PHI"'), (80, b"8")]


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (EngineUnavailable, "57P03"),
        (LimitExceeded, "54000"),
        (EngineTimeout, "57014"),
        (EngineFull, "53200"),
        (EngineDisagrees, "XX000"),
    ],
)
def test_states(kind: type[EngineFull], state: str) -> None:
    assert kind.sqlstate == state
    assert kind("text", hint="hint").hint == "hint"


def test_the_engine_s_own_error_is_for_the_client_only() -> None:
    failed = failure(FIELDS, 8)
    assert isinstance(failed, StatementFailed)
    assert failed.state == "22P02"
    assert failed.position == 8
    assert failed.fields == tuple(FIELDS[:3])
    assert "PHI" not in str(failed) + repr(failed) + failed.public_text


@pytest.mark.parametrize("state", [b"53100", b"53200", b"53400"])
def test_no_room(state: bytes) -> None:
    assert isinstance(failure([(67, state), (77, b'could not write to file "base/1/t3_2": No space left on device')]), EngineFull)


@pytest.mark.parametrize("state", [b"57P01", b"57P02", b"57P03"])
def test_gone(state: bytes) -> None:
    assert isinstance(failure([(67, state)]), EngineUnavailable)
    assert isinstance(failure([]), StatementFailed)
