"""Make the tables of phiproxy/wire/data from a server whose database is in UTF8: python tools/encoding_tables.py DSN [NAME …]."""

from __future__ import annotations

import gzip
import itertools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg

from phiproxy.wire import encoding_tables
from phiproxy.wire.encoding_differences import CODECS, UNITS, table

_DATA = Path(__file__).parent.parent / "phiproxy" / "wire" / "data"
_CONVERT = """\
CREATE FUNCTION pg_temp.encoded(code int, name text) RETURNS bytea LANGUAGE plpgsql AS
  $$ BEGIN RETURN convert_to(chr(code), name); EXCEPTION WHEN untranslatable_character THEN RETURN NULL; END $$;
CREATE FUNCTION pg_temp.decoded(bytes bytea, name text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RETURN convert_from(bytes, name); EXCEPTION WHEN others THEN RETURN NULL; END $$
"""


def sequences(name: str) -> list[bytes]:
    """Return every sequence that is one well-formed character beyond ASCII, and every byte of ASCII but zero."""
    third = map(bytes, itertools.product((0x8F,), range(0xA1, 0xFF), range(0xA1, 0xFF)))
    single = map(bytes, itertools.product(range(1, 256)))
    double = map(bytes, itertools.product(range(128, 256), range(1, 256)))
    return [s for s in (*single, *double, *third) if re.fullmatch(UNITS[name], s)]


def main(dsn: str, *names: str) -> None:
    """Write one file per encoding, or those of some."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_CONVERT)
        (version,) = conn.execute("SELECT version()").fetchone() or ("",)
        server = version.split(" on ")[0]
        for name in [name for name in CODECS if name in names or not names]:
            head = f"# {name}: where {server} and Python's {CODECS[name]} differ, by tools/encoding_tables.py\n"
            lines = "".join(f"{line}\n" for line in (*_read(conn, name), *_write(conn, name)))
            (_DATA / f"{name.lower()}.txt").write_text(head + lines, encoding="ascii")
        for name in [name for name in encoding_tables.UNITS if name in names or not names]:
            head = f"# {name}: as {server} converts it, by tools/encoding_tables.py\n"
            lines = "".join(f"{line}\n" for line in _map(conn, name))
            (_DATA / f"{name.lower()}.txt.gz").write_bytes(gzip.compress((head + lines).encode("ascii"), 9, mtime=0))


def characters(name: str) -> list[bytes]:
    """Return every well-formed sequence of one character beyond ASCII of an encoding that is kept whole, the short ones first."""
    high = range(0xA1, 0xFF)
    single, double = itertools.product(range(128, 256)), itertools.product(range(128, 256), range(1, 256))
    third = itertools.product((0x8F,), high, high)
    fourth = itertools.product((0x8E,), range(0xA1, 0xB1), high, high) if name == "EUC_TW" else ()
    return [s for s in map(bytes, (*single, *double, *third, *fourth)) if re.fullmatch(encoding_tables.UNITS[name], s)]


def _map(conn: psycopg.Connection[tuple[object, ...]], name: str) -> Iterator[str]:
    """Yield the lines of a file that ``mapped.mapping`` reads."""
    query = "SELECT b, pg_temp.decoded(b, %s) FROM unnest(%s::bytea[]) b"
    found: dict[bytes, str] = dict(conn.execute(query, (name, characters(name)), binary=True).fetchall())
    read = [f"{s.hex()} {_codes(t)}" for s, t in sorted(found.items(), key=lambda item: (len(item[0]), item[0])) if t is not None]
    yield from read
    known = encoding_tables.mapping(name, read)
    query = "SELECT chr(i), pg_temp.encoded(i, %s) FROM generate_series(128, 1114111) i WHERE i NOT BETWEEN 55296 AND 57343"
    singles = conn.execute(query, (name,), binary=True).fetchall()
    query = "SELECT t, convert_to(t, %s) FROM unnest(%s::text[]) t"
    pairs = conn.execute(query, (name, [t for t in known.write if len(t) > 1]), binary=True).fetchall()
    for text, sequence in (*singles, *pairs):
        if sequence is not None and known.write.get(text) != sequence:
            yield f"< {_codes(text)} {sequence.hex()}"


def _codes(text: str) -> str:
    return "+".join(format(ord(character), "04x") for character in text)


def _read(conn: psycopg.Connection[tuple[object, ...]], name: str) -> Iterator[str]:
    plain = table(name, ())
    query = "SELECT b, pg_temp.decoded(b, %s) FROM unnest(%s::bytea[]) b"
    for sequence, server in conn.execute(query, (name, sequences(name)), binary=True).fetchall():
        assert isinstance(sequence, bytes)
        try:
            python: str | None = sequence.decode(plain.codec)
        except UnicodeDecodeError:
            python = None
        if server != python:
            assert server is None or (isinstance(server, str) and len(server) == 1)
            yield f"read {sequence.hex()} {'-' if server is None else format(ord(server), '04x')}"


def _write(conn: psycopg.Connection[tuple[object, ...]], name: str) -> Iterator[str]:
    query = "SELECT i, pg_temp.encoded(i, %s) FROM generate_series(1, 1114111) i WHERE i NOT BETWEEN 55296 AND 57343"
    none: list[int] = []
    for code, server in conn.execute(query, (name,), binary=True).fetchall():
        assert isinstance(code, int)
        try:
            python: bytes | None = chr(code).encode(CODECS[name])
        except UnicodeEncodeError:
            python = None
        if server is None and python is not None:
            none.append(code)
        elif server != python:
            assert isinstance(server, bytes)
            yield f"write {code:04x} {server.hex()}"
    yield from _ranges(none)


def _ranges(codes: Iterable[int]) -> Iterator[str]:
    for _, group in itertools.groupby(enumerate(codes), lambda pair: pair[1] - pair[0]):
        run = [code for _, code in group]
        yield f"write {run[0]:04x}{f'-{run[-1]:04x}' if len(run) > 1 else ''} -"


if __name__ == "__main__":
    main(*sys.argv[1:])
