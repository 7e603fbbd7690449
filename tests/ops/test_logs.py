"""The proxy's own log."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from phiproxy.errors import place_of
from phiproxy.ops.logs import set_up_logging
from phiproxy.policy.settings import Log


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json() -> None:
    out = io.StringIO()
    set_up_logging(Log(level="info"), out)
    log = structlog.get_logger()
    log.debug("hidden")
    log.info("client", number=3)
    entry = json.loads(out.getvalue())
    assert (entry["event"], entry["number"], entry["level"]) == ("client", 3, "info")
    assert entry["timestamp"].endswith("Z")


def test_console() -> None:
    out = io.StringIO()
    set_up_logging(Log(level="debug", format="console"), out)
    structlog.get_logger().debug("seen", number=3)
    assert "seen" in out.getvalue()
    assert "number=3" in out.getvalue()


def test_an_exception_is_type_and_place() -> None:
    out = io.StringIO()
    set_up_logging(Log(), out)
    value = "123-45-6789"
    try:
        raise ValueError(value)
    except ValueError:
        structlog.get_logger().exception("failed")
    entry = json.loads(out.getvalue())
    assert entry["error"] == "ValueError"
    assert entry["place"].startswith("ops/test_logs.py:")
    assert value not in out.getvalue()


def test_place_of_what_was_never_raised() -> None:
    assert place_of(ValueError()) == ""
