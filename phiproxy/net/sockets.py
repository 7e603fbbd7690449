"""Listening sockets, TCP and Unix, and what is set on every socket of either leg; knows nothing of who connects."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from phiproxy.errors import ConfigError
from phiproxy.policy.setting_values import Address

# A peer whose host or network died without a word is noticed after two minutes. TCP_USER_TIMEOUT is left alone: it would also end
# a client that lives and does not read (a pager), since it counts a window that stays closed.
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
# What a socket takes that the peer has no room for yet. Without a limit the system grows it to megabytes, and who writes through
# the proxy would be stopped, or learn of an error, that much later than without it. What is on its way does not count.
UNSENT = {"TCP_NOTSENT_LOWAT": 64 * 1024}


def keep_alive(sock: socket.socket) -> None:
    """Send small messages at once, hold back no more than UNSENT, watch for a peer that is gone; nothing to do on a Unix socket."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (KEEP_ALIVE | UNSENT).items():
        option = getattr(socket, name, None)  # not every system has them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def allow_descriptors(wanted: int) -> int:
    """Raise this process's limit of open files as far as it is allowed to; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to be read, or a connection to be accepted."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())


def listen_on(addresses: Iterable[Address], permissions: int = 0o777) -> list[socket.socket]:
    """Listen on every address; ConfigError when one cannot be had, and then on none."""
    sockets: list[socket.socket] = []
    try:
        sockets.extend(listening(address, permissions) for address in addresses)
    except BaseException:
        close_all(sockets)
        raise
    return sockets


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close listening sockets."""
    for sock in sockets:
        close(sock)


def given(addresses: Sequence[Address], sockets: Sequence[socket.socket]) -> list[Address]:
    """Return the addresses with the ports that were given where any was asked for."""
    pairs = zip(addresses, sockets, strict=True)
    return [asked if asked.path else Address(asked.host, sock.getsockname()[1]) for asked, sock in pairs]


def listening(address: Address, permissions: int = 0o777) -> socket.socket:
    """Listen; ConfigError when the address cannot be had. ``permissions`` are those of a Unix socket's file, whatever the umask."""
    try:
        if address.path:
            _remove_stale(address.path)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.bind(address.path)
                Path(address.path).chmod(permissions)  # before anybody can connect
                sock.listen(1024)
            except OSError:
                sock.close()
                raise
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            sock = socket.create_server((address.host, address.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or type(error).__name__}") from None
    sock.setblocking(False)  # noqa: FBT003
    return sock


def close(sock: socket.socket) -> None:
    """Close a listening socket; the file of a Unix socket goes with the last process that listens on it."""
    path = sock.getsockname() if sock.family == socket.AF_UNIX and sock.fileno() >= 0 else ""
    sock.close()
    if path:
        with contextlib.suppress(OSError):
            _remove_stale(path)


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any longer, left by a process that was killed."""
    if not Path(path).is_socket():
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1)  # connecting waits where a backlog is full: then somebody listens
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except TimeoutError:
        pass
    finally:
        probe.close()
