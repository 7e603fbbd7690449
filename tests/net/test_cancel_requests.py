"""Cancel requests reach every server; those of sessions are in ``test_upstream`` and ``test_relay``."""

from __future__ import annotations

import asyncio

import pytest

from phiproxy.demo.postgres import free_port
from phiproxy.net.cancel_requests import cancel
from phiproxy.net.upstream import Connector, UpstreamError
from phiproxy.policy.settings import Upstream
from tests.net.peer import cancel_request, listening


async def test_a_cancel_request_goes_to_every_server() -> None:
    """Which one a session is on, only its own worker knows; one that is down is no reason not to ask the others."""
    heard: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(16))

    packet = cancel_request(7, b"key!")
    async with listening(take) as one, listening(take) as other:
        addresses = [f"127.0.0.1:{one}", f"127.0.0.1:{free_port()}", f"127.0.0.1:{other}"]
        await cancel(Connector(Upstream.model_validate({"address": addresses, "tls": "disable"}), None), packet)
    assert heard == [packet] * 2
    with pytest.raises(UpstreamError):
        await cancel(Connector(Upstream.model_validate({"address": addresses[1], "tls": "disable"}), None), packet)
