"""A connection on which messages are said as they are, past any driver."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import psycopg

from tests.harness.clinic import Clinic
from tests.session.frames import Frame, command_complete, data_row, error_fields, query, ready, split

OVER = data_row(b"over") + command_complete("SELECT 1") + ready()


class Backend:
    """A connection to a server, or to one through the proxy; the driver only logs in."""

    def __init__(self, dsn: str) -> None:
        self._login = psycopg.connect(dsn, autocommit=True)
        self.version = self._login.info.server_version
        self._socket = socket.socket(fileno=os.dup(self._login.pgconn.socket))
        self._socket.setblocking(True)
        self._socket.settimeout(240)

    def says(self, script: Sequence[bytes]) -> list[Frame]:
        """Say messages and return the replies, up to those of two last Queries that are only ours."""
        self._socket.sendall(b"".join(script) + query("ROLLBACK") + query("SELECT 'over'"))
        got = b""
        while not got.endswith(OVER):
            part = self._socket.recv(1 << 16)
            assert part, "the connection was closed"
            got += part
        replies = list(split(got.removesuffix(OVER)))
        assert [f[:1] for f in replies[-3:]] == [b"C", b"Z", b"T"]
        # … and without the warning that there was nothing to roll back.
        return replies[:-4] if replies[-4][:1] == b"N" and error_fields(replies[-4])["C"] == "25P01" else replies[:-3]

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()
        self._login.close()


@contextmanager
def both_ways(clinic: Clinic) -> Iterator[tuple[Backend, Backend]]:
    """Connect straight to the plaintext twin, and through the proxy."""
    with closing(Backend(clinic.plain_dsn)) as straight, closing(Backend(clinic.proxy_dsn)) as proxied:
        yield straight, proxied
