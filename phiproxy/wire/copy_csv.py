r"""COPY's CSV format: fields between delimiters, quoted where they must be; a quoted one may hold ends of lines."""

import re
from binascii import hexlify
from collections.abc import Callable, Sequence
from typing import cast

from phiproxy.long_values import LONG_VALUE, SMALL_PIECE, cut, hexlified, holds, parted
from phiproxy.wire.copy_rows import CopyDataError, CopyFormat, LineCodec, Raw, Row


def _section(quote: bytes, escape: bytes) -> bytes:
    """Return the pattern of one quoted section, quotes included (CopyReadAttributesCSV)."""
    q, e = re.escape(quote), re.escape(escape)
    if quote == escape:
        return b"%b(?:[^%b]|%b%b)*+%b" % (q, q, q, q, q)
    return b"%b(?:[^%b%b]|%b[%b%b]|%b(?![%b%b]))*+%b" % (q, q, e, e, q, e, e, q, e, q)


class CsvCodec(LineCodec):
    """Rows of the CSV format."""

    def __init__(self, form: CopyFormat, limit: int, *, from_server: bool = False) -> None:
        super().__init__(form, limit, from_server=from_server)
        self._quote, self._escape = form.quote, form.escape
        self._record: list[bytes] = []
        self._record_size = 0
        self._quoted = False
        section = _section(form.quote, form.escape)
        q, d = re.escape(form.quote), re.escape(form.delimiter)
        self._field = re.compile(b"(?:[^%b%b]|%b)*+" % (q, d, section)).match
        self._until_end = re.compile(b"(?:[^%b\r\n]|%b)*+" % (q, section)).match
        self._sections = re.compile(section)
        e = re.escape(form.escape)
        self._quotes = re.compile(q if form.quote == form.escape else b"%b[%b%b]|%b" % (e, q, e, q))
        self._inside = re.compile(b"%b([%b%b])" % (e, q, e))
        self._special = re.compile(b"[%b%b\n\r]" % (q, d))
        self._doubled = re.compile(b"[%b%b]" % (q, e))
        self._hex_special = self._doubled.search(b"\\x0123456789abcdefz") is not None

    @property
    def held(self) -> int:
        """Bytes of a record that is not whole yet."""
        return self._lines.size + self._record_size

    def _first_end(self, data: bytes) -> int:
        match = self._until_end(data)
        return match.end() if match else 0

    def _cut(self, data: bytes) -> list[Row]:
        lines = self._lines
        pieces = lines.cut(data)
        if self._quoted or self._quote in data:
            return self._rows(self._records(pieces))
        if lines.eol == b"\n" and b"\r" not in data and not holds(data, b"\\."):  # nothing to look for, line by line
            self._first = self._next
            self._next += len(pieces)
            return [cast("Row", parted(line, self._delimiter)) for line in pieces]
        return self._rows(pieces)

    def _records(self, lines: list[bytes]) -> list[bytes]:
        """Join lines whose end stood in quotes; the beginning of a record is kept until its end comes."""
        whole = []
        for line in lines:
            self._toggle(line)
            if self._quoted:
                self._record += (line, self._lines.eol)
                self._record_size += len(line) + 2
                self._lines.check(self._record_size)
            elif self._record:
                whole.append(b"".join([*self._record, line]))
                self._record = []
                self._record_size = 0
            else:
                whole.append(line)
        return whole

    def _toggle(self, line: bytes) -> None:
        """Follow the quotes of one line (CopyReadLineText)."""
        if self._quote not in line:
            return
        if self._quote == self._escape:
            self._quoted ^= line.count(self._quote) % 2 == 1
            return
        for mark in self._quotes.findall(line):
            # An escape means something only inside of quotes.
            if mark == self._quote or (not self._quoted and mark[-1:] == self._quote):
                self._quoted = not self._quoted

    def finish(self) -> list[Row]:
        """Return the last row."""
        if self.ended:
            return []
        rest = self._lines.take()
        if not rest and not self._record:
            return []
        eol, bare_cr = self._lines.eol, False
        if not eol:
            bare_cr = rest[self._first_end(rest) :] == b"\r"
            eol = self._lines.eol = b"\r" if bare_cr else b"\n"
            rest = rest[:-1] if bare_cr else rest
        self._toggle(rest)
        if self._quoted:
            self._first = self._next + self._inner(b"".join(self._record) + rest, first=self._next == 1)
            self.error = CopyDataError("unterminated CSV quoted field")
            return []
        record = b"".join(self._record) + rest
        self._record = []
        return self._rows([record], whole=bare_cr)

    def _rows(self, lines: list[bytes], *, whole: bool = True) -> list[Row]:
        self._first = self._next
        if not self._from_server:
            lines = self._checked(lines, whole=whole)
        self._next += len(lines)
        quote, delimiter = self._quote, self._delimiter
        rows: list[Row] = [[*parted(record, delimiter)] if quote not in record else self._split(record) for record in lines]
        for record in lines:
            if quote in record:
                self._next += self._inner(record, first=self._first == 1 and record is lines[0])
        return rows

    def _inner(self, field: bytes, *, first: bool) -> int:
        """Count the ends of lines in quotes as the server does, which does not know yet in the first record how lines end."""
        return field.count(b"\n" if self._lines.eol == b"\n" and not first else b"\r")

    def _split(self, record: bytes) -> Row:
        row: Row = []
        pos = 0
        while True:
            match = self._field(record, pos)
            assert match is not None
            row.append(match[0])
            pos = match.end() + 1
            if pos > len(record):
                return row

    def _checked(self, lines: list[bytes], *, whole: bool) -> list[bytes]:
        """Return the records before the end marker, whose line has an end, or the first one with a stray end of line."""
        eol = self._lines.eol
        for i, record in enumerate(lines):
            if b"\r" in record or b"\n" in record:
                bare = self._sections.sub(b"", record)
                for character, name in ((b"\r", "carriage return"), (b"\n", "newline")):
                    if character in bare and (character != b"\r" or eol != b"\r"):
                        hint = f"Use quoted CSV field to represent {name}."
                        self.error = CopyDataError(f"unquoted {name} found in data", hint=hint)
                        return lines[:i]
            if record == b"\\." and self._form.marker_ends_csv and whole:
                self.ended = True
                return lines[:i]
        return lines

    def line(self, rows: Sequence[Row], index: int) -> int:
        """Return the number of the line at which a row ends: ends of lines in quotes count too."""
        inner = (
            self._inner(field, first=self._first == 1 and i == 0)
            for i, row in enumerate(rows[: index + 1])
            for field in row
            if field
        )
        return self._first + index + sum(inner)

    def read(self, raw: bytes, position: int) -> bytes | None:
        """Return the value of a field; None for NULL and DEFAULT."""
        form = self._form
        if self._quote not in raw:
            null = raw == form.null and position not in form.force_not_null
            return None if null or raw == form.default else raw
        value = self._sections.sub(self._unquoted, raw)
        return None if position in form.force_null and value == form.null else value

    def _unquoted(self, match: re.Match[bytes]) -> bytes:
        inside = match[0][1:-1]
        return self._inside.sub(rb"\1", inside) if self._escape in inside else inside

    def reader(self, position: int) -> Callable[[Raw], bytes | None]:
        """Return what ``read`` does for the fields of one column."""
        form, quote, whole = self._form, self._quote, self.read
        null = None if position in form.force_not_null else form.null
        absent = (None, null, form.default)
        return lambda raw: None if raw is None or raw in absent else whole(raw, position) if quote in raw else raw

    def write(self, value: bytes, position: int) -> bytes:
        r"""Return a value as the server would spell it (CopyAttributeOutCSV): NULL's spelling and ``\.`` are quoted too."""
        form = self._form
        plain = value != form.null and position not in form.force_quote and not (form.single and value == b"\\.")
        pieces = (value,) if len(value) <= LONG_VALUE else cut(value, 0, len(value), SMALL_PIECE)
        return value if plain and not any(map(self._special.search, pieces)) else self._in_quotes(value)

    def _in_quotes(self, value: bytes) -> bytes:
        doubled = (self._doubled.sub(lambda m: self._escape + m[0], piece) for piece in cut(value, 0, len(value), SMALL_PIECE))
        return b"".join([self._quote, *doubled, self._quote])

    def write_bytea(self, value: bytes) -> bytes:
        """Return a bytea in hex form, in quotes: a delimiter may be any letter."""
        if self._hex_special:
            return self._in_quotes(hexlified(value, b"\\x"))
        return hexlified(value, self._quote + b"\\x", self._quote)

    def long_bytea(self, value: bytes) -> list[bytes]:
        """Return a bytea in hex form, in quotes and in pieces."""
        pieces = [b"\\x", *map(hexlify, cut(value, 0, len(value), SMALL_PIECE // 2))]
        if self._hex_special:
            pieces = [self._doubled.sub(lambda m: self._escape + m[0], piece) for piece in pieces]
        return [self._quote, *pieces, self._quote]

    def poison(self) -> bytes:
        """Return what is no bytea."""
        return self._in_quotes(b"\\xz")
