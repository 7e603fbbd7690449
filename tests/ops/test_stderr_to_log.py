"""Nothing but lines of the log on standard error, and no value in them, whoever has something to say."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
import warnings
from typing import Any

import pytest

from phiproxy.ops.logs import set_up_logging
from phiproxy.policy.settings import Log

VALUE = "123-45-6789"


@pytest.fixture
def out() -> io.StringIO:
    """The log, as JSON."""
    stream = io.StringIO()
    set_up_logging(Log(), stream)
    return stream


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    assert VALUE not in out.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_library_with_arguments(out: io.StringIO) -> None:
    logging.getLogger("botocore.x").warning("retry of %s", VALUE)
    assert [(e["event"], e["logger"], e["level"]) for e in lines(out)] == [("retry of %s", "botocore.x", "warning")]


def test_a_library_with_a_text_of_its_own(out: io.StringIO) -> None:
    for text in (f"cannot send to <socket {VALUE}>\n{VALUE}", f"'{VALUE}'"):
        logging.getLogger("other").error(text)
    logging.getLogger("other").debug(VALUE)
    assert [e["event"] for e in lines(out)] == ["cannot send to", "a library says"]


def test_the_service_login_is_told_in_full(out: io.StringIO) -> None:
    logging.getLogger("psycopg.pool").warning("error connecting in %r: %s", "phiproxy-clinic", OSError("Connection refused"))
    (entry,) = lines(out)
    assert entry["event"] == "error connecting in 'phiproxy-clinic': Connection refused"


async def test_the_event_loop(out: io.StringIO) -> None:
    def fail(_value: str) -> None:
        raise ValueError(VALUE)

    asyncio.get_running_loop().call_soon(fail, VALUE)
    await asyncio.sleep(0.01)
    (entry,) = lines(out)
    assert entry["event"].startswith("Exception in callback")
    assert (entry["logger"], entry["error"]) == ("asyncio", "ValueError")
    assert entry["place"].startswith("ops/test_stderr_to_log.py:")


def test_a_warning(out: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        set_up_logging(Log(), out)
        warnings.warn(VALUE, DeprecationWarning, stacklevel=1)
    (entry,) = lines(out)
    assert (entry["event"], entry["category"]) == ("a library warns", "DeprecationWarning")


def test_a_thread(out: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError(VALUE)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    (entry,) = lines(out)
    assert (entry["event"], entry["error"]) == ("uncaught exception in a thread", "ValueError")


def test_a_process() -> None:
    """What ends it, and what could not be raised while an object went away."""
    program = textwrap.dedent(f"""\
        from phiproxy.ops.logs import set_up_logging
        from phiproxy.policy.settings import Log
        set_up_logging(Log())
        class Late:
            def __del__(self):
                raise KeyError({VALUE!r})
        Late()
        raise ValueError({VALUE!r})
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert VALUE not in done.stderr
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(e["event"], e["error"]) for e in entries] == [
        ("an exception could not be raised", "KeyError"),
        ("uncaught exception", "ValueError"),
    ]
