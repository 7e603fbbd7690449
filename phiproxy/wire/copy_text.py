r"""COPY's text format: lines of fields between delimiters, backslash escapes, ``\N`` for NULL, ``\.`` at the end."""

import re
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from phiproxy.long_values import LONG_VALUE, PIECE, SMALL_PIECE, copied, cut, found_at, hexlified, holds, parted, together
from phiproxy.wire.copy_rows import CopyDataError, CopyFormat, LineCodec, Raw, Row

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|[\s\S])")
# As long as the longest escape.
_NO_ESCAPE = re.compile(rb"[^\\]{4}")
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_FIRST_END = re.compile(rb"[^\\\r\n]*+(?:\\[\s\S][^\\\r\n]*+)*+")
_MARKER = re.compile(rb"(?:[^\\]|\\[^.])*+\\\.", re.DOTALL)
_STRAY = {b"\n": b"\r", b"\r": b"\n", b"\r\n": b"\r\n"}
_NAMES = {b"\r": "carriage return", b"\n": "newline"}


def unescape(field: bytes) -> bytes:
    """Return the value of a field that is not NULL."""
    if b"\\" not in field:
        return field
    if field[:2] == b"\\\\" and found_at(field, b"\\", 2) < 0:  # bytea in hex form
        return field[1:] if len(field) <= LONG_VALUE else copied(field, 1, len(field))
    if len(field) <= LONG_VALUE:
        return _ESCAPE.sub(_unescaped, field)
    return together([_ESCAPE.sub(_unescaped, field[begin:end]) for begin, end in _between_escapes(field)])


def _between_escapes(field: bytes) -> Iterator[tuple[int, int]]:
    """Cut a long field where no backslash is near, so that each escape is in one piece."""
    begin = 0
    for at in range(PIECE, len(field), PIECE):
        gap = _NO_ESCAPE.search(field, at, at + PIECE)
        if gap is not None:
            yield begin, gap.end()
            begin = gap.end()
    yield begin, len(field)


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


class TextCodec(LineCodec):
    """Rows of the text format."""

    def __init__(self, form: CopyFormat, limit: int, *, from_server: bool = False) -> None:
        super().__init__(form, limit, from_server=from_server)
        # What stands for NULL or DEFAULT cannot be seen in rows without a backslash.
        self._escaped = all(b"\\" in marker for marker in (form.null, form.default) if marker is not None)
        special = self._specials = b"\b\f\n\r\t\v\\" + form.delimiter
        self._special = re.compile(b"[" + re.escape(special) + b"]")
        named = {value: b"\\" + letter for letter, value in _LETTERS.items()}
        self._spelled = {bytes((c,)): named.get(bytes((c,)), b"\\" + bytes((c,))) for c in special}

    def _first_end(self, data: bytes) -> int:
        """Return where the first end of a line is that no backslash escapes, in pieces; the end of the data where there is none."""
        at = 0
        while match := _FIRST_END.match(data, at, at + SMALL_PIECE):
            if match.end() == at or data[match.end() : match.end() + 1] in (b"\r", b"\n"):
                return match.end()
            at = match.end()
        return at

    def _cut(self, data: bytes) -> list[Row]:
        lines = self._lines
        pieces = lines.cut(data)
        if not self._from_server and holds(data, b"\\" + lines.eol) and any(map(ends_open, pieces)):
            pieces = list(rejoin(pieces, lines.eol))
            if ends_open(pieces[-1]):
                rest = lines.take()
                lines.keep(pieces.pop() + lines.eol)
                lines.keep(rest)
        rows = self._rows(pieces, data)
        del data  # before the lines, where both are long: in between others have their turn
        pieces.clear()
        return rows

    def finish(self) -> list[Row]:
        """Return the last row."""
        if self.ended:
            return []
        rest = self._lines.take()
        if not rest:
            return []
        whole = False
        if not self._lines.eol:
            whole = rest[-1:] == b"\r" and not ends_open(rest[:-1])
            self._lines.eol = b"\r" if whole else b"\n"
            rest = rest[:-1] if whole else rest
        if not whole and ends_open(rest):
            rest = rest[:-1]  # it escapes nothing; with the end of the line behind it, it would
        elif not whole and holds(rest, b"\\.") and (marker := _MARKER.match(rest)) and marker.end() == len(rest):
            self._first = self._next
            self.error = self._misplaced()
            return []
        return self._rows([rest], rest)

    def _rows(self, lines: list[bytes], data: bytes) -> list[Row]:
        """Return lines as rows; ``data`` is what they were cut from, where what no line has is seen at once."""
        self._first = self._next
        eol = self._lines.eol
        self.bare = self._escaped and not holds(data, b"\\")
        self.ascii = self.bare and len(data) <= LONG_VALUE and data.isascii() and 0 not in data
        if not self._from_server and (holds(data, b"\\.") or holds(data, b"\r") or (eol != b"\n" and holds(data, b"\n"))):
            lines = self._checked(lines)
        self._next += len(lines)
        delimiter = self._delimiter
        escaped = b"\\" + delimiter
        if not holds(data, escaped):
            return [cast("Row", parted(line, delimiter)) for line in lines]
        rows: list[Row] = []
        for line in lines:
            row: Row = [*parted(line, delimiter)]
            if holds(line, escaped):
                row = [*rejoin(parted(line, delimiter), delimiter)]
            rows.append(row)
        return rows

    def _checked(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines before the end marker or the first line that is broken."""
        eol = self._lines.eol
        for i, line in enumerate(lines):
            marker = _MARKER.match(line) if b"\\." in line else None
            before, behind = (line[: marker.end() - 2], line[marker.end() :]) if marker else (line, b"")
            if b"\r" in before or b"\n" in before:
                stray = next((c for c in _ESCAPE.sub(b"", before) if bytes((c,)) in _STRAY[eol] and c in b"\r\n"), None)
                if stray is not None:
                    name, spelled = _NAMES[bytes((stray,))], "\\r" if stray == 13 else "\\n"
                    self.error = CopyDataError(f"literal {name} found in data", hint=f'Use "{spelled}" to represent {name}.')
                    return lines[:i]
            if marker is not None:
                return [*lines[:i], *self._marked(before, behind)]
        return lines

    def _marked(self, before: bytes, behind: bytes) -> list[bytes]:
        """Return the row that an end marker ends; until version 17 one could stand behind it."""
        if behind[:1] == (b"\r" if self._lines.eol == b"\n" else b"\n"):
            self.error = CopyDataError("end-of-copy marker does not match previous newline style")
        elif behind or (before and not self._form.marker_ends_csv):
            self.error = self._misplaced()
        else:
            self.ended = True
            return [before] if before else []
        return []

    def _misplaced(self) -> CopyDataError:
        old = self._form.marker_ends_csv
        return CopyDataError("end-of-copy marker corrupt" if old else "end-of-copy marker is not alone on its line")

    def reader(self, position: int) -> Callable[[Raw], bytes | None]:
        """Return what ``read`` does for the fields of one column."""
        del position
        absent = (None, self._form.null, self._form.default)
        return lambda raw: None if raw is None or raw in absent else unescape(raw) if b"\\" in raw else raw

    def write(self, value: bytes, position: int) -> bytes:
        """Return a value as the server would spell it (CopyAttributeOutText)."""
        del position
        if len(value) > LONG_VALUE:
            return together([*map(self._written, cut(value, 0, len(value), SMALL_PIECE))])
        return self._special.sub(self._spell, value) if self._special.search(value) else value

    def _written(self, piece: bytes) -> bytes:
        """Return what ``write`` does of a piece of a long value; to look for what is special by ``translate`` is much faster."""
        plain = len(piece.translate(None, self._specials)) == len(piece)
        return piece if plain else self._special.sub(self._spell, piece)

    def _spell(self, match: re.Match[bytes]) -> bytes:
        return self._spelled[match[0]]

    def write_bytea(self, value: bytes) -> bytes:
        """Return a bytea in hex form."""
        return b"\\\\x" + hexlify(value) if len(value) <= LONG_VALUE else hexlified(value, b"\\\\x")

    def long_bytea(self, value: bytes) -> list[bytes]:
        """Return a bytea in hex form, in pieces."""
        return [b"\\\\x", *map(hexlify, cut(value, 0, len(value), SMALL_PIECE // 2))]

    def poison(self) -> bytes:
        """Return what is no bytea."""
        return b"\\\\xz"
