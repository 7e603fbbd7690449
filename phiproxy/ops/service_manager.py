"""What systemd is told of a service of ``Type=notify`` or ``notify-reload`` (sd_notify(3)); nothing where it does not ask.

The messages are datagrams to the socket that ``$NOTIFY_SOCKET`` names: the protocol is documented and stable, and no library for it
is kept that needs no compiler.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable

import structlog

log = structlog.get_logger("phiproxy")

# Of the watchdog's time: sd_watchdog_enabled(3) advises half.
_OF_WATCHDOG = 0.5


class ServiceManager:
    """The service manager of this process, where there is one."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6 if ours else 0.0
        """Seconds within which it must hear that the event loop turns; 0: it does not ask."""

    def ready(self) -> None:
        """Say that the service is up."""
        self._tell("READY=1")

    async def reload(self, reading: Awaitable[None]) -> None:
        """Say that the configuration is read again, await that, and say that the service is up."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            await reading
        finally:
            self.ready()

    def stopping(self) -> None:
        """Say that no more clients are taken."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Say again and again that the event loop turns, forever; returns at once where nobody wants to hear it."""
        while self.watchdog:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog * _OF_WATCHDOG)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("the service manager cannot be told", type=type(error).__name__)
