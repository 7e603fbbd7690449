"""A connection on which many statements are under way at once, as messages; and the replies as a client sees them."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from phiproxy.wire.messages import Field, decode_error_fields, decode_parameter_description, decode_row_description
from tests.session.frames import query

PATIENCE = 60.0


class ConnectionEnded(Exception):
    """The other side closed the connection, or says nothing any more."""


@dataclass(frozen=True)
class Reply:
    """What was said to one message that ends in ReadyForQuery: rows as a bag, and what describes them."""

    fields: tuple[Field, ...]
    parameters: tuple[int, ...]
    rows: tuple[bytes, ...]
    tags: tuple[bytes, ...]
    sqlstate: str | None = None
    message: str = ""
    hint: str = ""


class Line:
    """A connection; the driver only logs in."""

    def __init__(self, dsn: str) -> None:
        self._login = psycopg.connect(dsn, autocommit=True)
        self.version = self._login.info.server_version // 10_000
        self._socket = socket.socket(fileno=os.dup(self._login.pgconn.socket))
        self._socket.settimeout(PATIENCE)
        self._buffer = bytearray()

    def close(self) -> None:
        """Close it."""
        self._socket.close()
        self._login.close()

    def say(self, steps: Sequence[bytes]) -> None:
        """Send messages; each of the steps ends in one that ReadyForQuery answers."""
        self._socket.sendall(b"".join(steps))

    def replies(self, count: int) -> list[Reply]:
        """Return the replies to so many steps; raises ``ConnectionEnded``."""
        return [self._reply() for _ in range(count)]

    def ask(self, text: str) -> Reply:
        """Run one string of statements by itself."""
        self.say([query(text)])
        return self._reply()

    def _reply(self) -> Reply:
        fields: list[Field] = []
        parameters: tuple[int, ...] = ()
        rows: list[bytes] = []
        tags: list[bytes] = []
        error: dict[int, bytes] = {}
        while True:
            tag, body = self._frame()
            if tag == b"D":
                rows.append(body)
            elif tag == b"T":
                # A table's OID differs between databases, that there is one does not.
                fields += [f._replace(table_oid=bool(f.table_oid)) for f in decode_row_description(body, 0, len(body))]
            elif tag == b"t":
                parameters = tuple(decode_parameter_description(body, 0, len(body)))
            elif tag == b"C":
                tags.append(body)
            elif tag == b"E":
                error = dict(decode_error_fields(body, 0, len(body)))
            elif tag == b"Z":
                sqlstate = error[ord("C")].decode() if error else None
                texts = [error.get(ord(code), b"").decode("utf-8", "replace") for code in "MH"]
                return Reply(tuple(fields), parameters, tuple(sorted(rows)), tuple(tags), sqlstate, *texts)

    def _frame(self) -> tuple[bytes, bytes]:
        buffer = self._buffer
        while len(buffer) < 5 or len(buffer) < (end := 1 + int.from_bytes(buffer[1:5], "big")):
            try:
                part = self._socket.recv(1 << 18)
            except OSError as error:
                raise ConnectionEnded from error
            if not part:
                raise ConnectionEnded
            buffer += part
        frame = bytes(buffer[:1]), bytes(buffer[5:end])
        del buffer[:end]
        return frame
