"""Listening sockets, TCP and Unix; knows nothing of who connects."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from phiproxy.errors import ConfigError
from phiproxy.policy.values import Address


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
