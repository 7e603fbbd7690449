"""What a client says to a database without a policy: it passes as it comes, but for statements that would open another database.

Messages are told apart by their lengths only. One that holds SQL is held until it is whole, since nothing of it can be taken back;
one that is refused is replaced by a statement with which the server itself raises the error, in its place and order.
"""

import struct
from collections.abc import Callable

from phiproxy.errors import MalformedMessage, PhiproxyError, WireError
from phiproxy.wire.framing import HEADER
from phiproxy.wire.messages import cstring, encode_parse, encode_query

_LENGTH = struct.Struct("!I").unpack_from
_QUERY, _PARSE = b"QP"
# Every text that is refused has this in it.
_WORD = b"database"
Guard = Callable[[bytes], PhiproxyError | None]
"""Tells why a text is refused, or None."""


class Gate:
    """One client's way to a server whose answers nobody looks at."""

    __slots__ = ("_broken", "_guard", "_held", "_limit", "_missing", "_passing")

    def __init__(self, guard: Guard, limit: int) -> None:
        self._guard = guard
        self._limit = limit
        self._held: list[bytes] = []
        self._missing = 0
        self._passing = 0
        self._broken = False

    def passed(self, data: bytes) -> bytes:
        """Return what the server shall get now of what has arrived; WireError for a text that is longer than is ever held."""
        if not (self._held or self._passing) and _whole(data) and _WORD not in data.lower():
            return data
        if self._passing >= len(data) or self._broken:
            self._passing = max(0, self._passing - len(data))
            return data
        if self._missing > len(data):
            self._missing -= len(data)
            self._held.append(data)
            return b""
        if self._held:
            data = b"".join((*self._held, data))
            self._held, self._missing = [], 0
        begin, self._passing = self._passing, 0
        return data[:begin] + self._messages(data, begin)

    def _messages(self, data: bytes, begin: int) -> bytes:
        """Return what passes of the messages that begin here; a text that is not whole is held."""
        out, pos, size = list[bytes](), begin, len(data)
        while size - pos >= HEADER and not self._broken:
            end = pos + 1 + _LENGTH(data, pos + 1)[0]
            if end - pos < HEADER:
                self._broken, end = True, size  # the server ends the connection over this
            elif data[pos] not in (_QUERY, _PARSE):
                self._passing, end = max(0, end - size), min(end, size)
            elif end > size:
                if end - pos > self._limit:
                    raise WireError("a message is longer than limits.max_message")
                self._missing = end - size
                break
            elif refused := self._refused(data, pos, end):
                out += data[begin:pos], refused
                begin = end
            pos = end
        if pos < size:
            self._held.append(data[pos:])
            self._missing = self._missing or HEADER - (size - pos)
        return b"".join((*out, data[begin:pos]))

    def _refused(self, data: bytes, start: int, end: int) -> bytes:
        """Return what stands in for a message that is refused; empty for one that passes, or that the server cannot read either."""
        name = b""
        try:
            at = start + HEADER
            if data[start] == _PARSE:
                name, at = cstring(data, at, end)
            text, _ = cstring(data, at, end)
        except MalformedMessage:
            return b""
        error = self._guard(text)
        if error is None:
            return b""
        raising = _raising(error)
        return encode_query(raising) if data[start] == _QUERY else encode_parse(name, raising)


def _whole(data: bytes) -> bool:
    """Tell whether this is a run of whole messages, as nearly always."""
    pos, size = 0, len(data)
    try:
        while pos < size:
            (length,) = _LENGTH(data, pos + 1)
            if length < 4:
                return False
            pos += 1 + length
    except struct.error:
        return False
    return pos == size


def _raising(error: PhiproxyError) -> bytes:
    """Return a statement of constants that raises an error in the server, to be said to the client in its own order."""
    said = {"ERRCODE": error.sqlstate, "MESSAGE": error.public_text, "HINT": error.hint or ""}
    options = ", ".join("{} = '{}'".format(name, value.replace("'", "''")) for name, value in said.items())
    return f"DO LANGUAGE plpgsql $phiproxy$BEGIN RAISE EXCEPTION USING {options}; END$phiproxy$".encode()
