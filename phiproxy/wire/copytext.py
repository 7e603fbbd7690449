r"""COPY's text format: lines of fields between delimiters, backslash escapes, ``\N`` for NULL, ``\.`` at the end."""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from phiproxy.wire.copydata import CopyDataError, CopyFormat, Lines, Raw, Row

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|[\s\S])")
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_FIRST_END = re.compile(rb"(?:[^\\\r\n]|\\[\s\S])*+")
_MARKER = re.compile(rb"(?:[^\\]|\\[^.])*+\\\.", re.DOTALL)
_STRAY = {b"\n": b"\r", b"\r": b"\n", b"\r\n": b"\r\n"}
_NAMES = {b"\r": "carriage return", b"\n": "newline"}


def unescape(field: bytes) -> bytes:
    """Return the value of a field that is not NULL."""
    if b"\\" not in field:
        return field
    if field[:2] == b"\\\\" and b"\\" not in field[2:]:  # bytea in hex form
        return field[1:]
    return _ESCAPE.sub(_unescaped, field)


def _unescaped(match: re.Match[bytes]) -> bytes:
    spelled = match[1]
    if spelled[0] == 120 and len(spelled) > 1:
        return bytes((int(spelled[1:], 16),))
    if 48 <= spelled[0] <= 55:
        return bytes((int(spelled, 8) & 0xFF,))
    return _LETTERS.get(spelled, spelled)


def ends_open(line: bytes) -> bool:
    """Tell whether a piece ends in a backslash that escapes what comes next."""
    return line[-1:] == b"\\" and (len(line) - len(line.rstrip(b"\\"))) % 2 == 1


def rejoin(pieces: Sequence[bytes], separator: bytes) -> Iterator[bytes]:
    """Join pieces where the separator between them was escaped; the last may still be open."""
    whole: list[bytes] = []
    for piece in pieces:
        whole.append(piece)
        if not ends_open(piece):
            yield separator.join(whole) if len(whole) > 1 else piece
            whole = []
    if whole:
        yield separator.join(whole)


class TextCodec:
    """Rows of the text format. ``from_server``: it ends every line with LF."""

    def __init__(self, form: CopyFormat, limit: int, *, from_server: bool = False) -> None:
        self.error: CopyDataError | None = None
        self.ended = False
        self.bare = False
        # What stands for NULL or DEFAULT cannot be seen in rows without a backslash.
        self._escaped = all(b"\\" in marker for marker in (form.null, form.default) if marker is not None)
        self._null, self._default, self._delimiter = form.null, form.default, form.delimiter
        self._lines = Lines(limit, b"\n" if from_server else b"")
        self._from_server = from_server
        self._first = 1
        self._next = 1
        special = b"\b\f\n\r\t\v\\" + form.delimiter
        self._special = re.compile(b"[" + re.escape(special) + b"]")
        named = {value: b"\\" + letter for letter, value in _LETTERS.items()}
        self._spelled = {bytes((c,)): named.get(bytes((c,)), b"\\" + bytes((c,))) for c in special}

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that are whole now."""
        if self.ended:
            return []
        lines = self._lines
        if not lines.eol:
            data = self._detect(data)
            if not lines.eol:
                return []
        data = lines.whole(data)
        found = lines.cut(data)
        if b"\\" + lines.eol in data and any(map(ends_open, found)) and not self._from_server:
            found = list(rejoin(found, lines.eol))
            if ends_open(found[-1]):
                rest = lines.take()
                lines.keep(found.pop() + lines.eol)
                lines.keep(rest)
        return self._rows(found, data)

    def _detect(self, data: bytes) -> bytes:
        """Find the first line's end; return what is to be cut, or keep it."""
        lines = self._lines
        if b"\n" not in data and b"\r" not in data and not (lines.tail and lines.tail[-1][-1:] == b"\r"):
            lines.keep(data)
            return b""
        data = lines.take() + data
        match = _FIRST_END.match(data)
        end = match.end() if match else 0
        if data[end : end + 1] == b"\n":
            lines.eol = b"\n"
        elif data[end : end + 1] == b"\r" and end + 1 < len(data):
            lines.eol = b"\r\n" if data[end + 1 : end + 2] == b"\n" else b"\r"
        else:
            lines.keep(data)
        return data

    def finish(self) -> list[Row]:
        """Return the last row."""
        if self.ended:
            return []
        rest = self._lines.take()
        if not rest:
            return []
        if not self._lines.eol:
            self._lines.eol = b"\r" if rest[-1:] == b"\r" and not ends_open(rest[:-1]) else b"\n"
            rest = rest[:-1] if self._lines.eol == b"\r" else rest
        return self._rows([rest], rest)

    def _rows(self, found: list[bytes], data: bytes) -> list[Row]:
        """Return lines as rows; ``data`` is what they were cut from, where what no line has is seen at once."""
        self._first = self._next
        eol = self._lines.eol
        self.bare = self._escaped and b"\\" not in data
        if not self._from_server and (b"\\." in data or b"\r" in data or (eol != b"\n" and b"\n" in data)):
            found = self._checked(found)
        self._next += len(found)
        delimiter = self._delimiter
        escaped = b"\\" + delimiter
        if escaped not in data:
            return [cast("Row", line.split(delimiter)) for line in found]
        rows: list[Row] = []
        for line in found:
            row: Row = [*line.split(delimiter)]
            if escaped in line:
                row = [*rejoin(line.split(delimiter), delimiter)]
            rows.append(row)
        return rows

    def _checked(self, found: list[bytes]) -> list[bytes]:
        """Return the lines before the end marker or the first line that is broken."""
        eol = self._lines.eol
        for i, line in enumerate(found):
            if b"\r" in line or b"\n" in line:
                stray = next((c for c in _ESCAPE.sub(b"", line) if bytes((c,)) in _STRAY[eol] and c in b"\r\n"), None)
                if stray is not None:
                    self.error = CopyDataError(f"literal {_NAMES[bytes((stray,))]} found in data")
                    return found[:i]
            if b"\\." in line and _MARKER.match(line):
                if line == b"\\.":
                    self.ended = True
                else:
                    self.error = CopyDataError("end-of-copy marker is not alone on its line")
                return found[:i]
        return found

    def join(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""
        if not rows:
            return b""
        delimiter, eol = self._delimiter, self._lines.eol
        return eol.join([delimiter.join(row) for row in rows]) + eol  # type: ignore[arg-type]

    def line(self, rows: Sequence[Row], index: int) -> int:
        """Return the number of a row's line."""
        del rows
        return self._first + index

    def read(self, raw: bytes, position: int) -> bytes | None:
        """Return the value of a field; None for NULL and DEFAULT."""
        return self.reader(position)(raw)

    def reader(self, position: int) -> Callable[[Raw], bytes | None]:
        """Return what ``read`` does for the fields of one column."""
        del position
        absent = (None, self._null, self._default)
        return lambda raw: None if raw is None or raw in absent else unescape(raw) if b"\\" in raw else raw

    def write(self, value: bytes, position: int) -> bytes:
        """Return a value as the server would spell it (CopyAttributeOutText)."""
        del position
        return self._special.sub(lambda m: self._spelled[m[0]], value) if self._special.search(value) else value

    def write_bytea(self, value: bytes) -> bytes:
        """Return a bytea in hex form."""
        return b"\\\\x" + hexlify(value)

    def poison(self) -> bytes:
        """Return what is no bytea."""
        return b"\\\\xz"
