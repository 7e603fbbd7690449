"""The socket floor is tested under plain asyncio and under uvloop; the other tests of this directory under the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
BOTH_LOOPS = ("test_listener", "test_relay", "test_sockets", "test_startup", "test_tls", "test_upstream", "test_tasks")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Name the event loops that a test runs on."""
    if item.path.stem in BOTH_LOOPS:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
