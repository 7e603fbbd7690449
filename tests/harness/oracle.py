"""The leak oracle: plants values that nothing else looks like, then searches everywhere they must not be."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import psycopg
from psycopg import sql

from tests.harness.server import PostgresServer
from tests.harness.tap import Tap

# Catalogues that may keep values of a column or texts that a client chose.
CATALOGUES = ("pg_statistic", "pg_statistic_ext_data", "pg_description", "pg_largeobject", "pg_seclabel")
# Of these, what initdb has not written.
_SINCE = " WHERE {} >= 16384 OR age(xmin) < 2147483647"
_CATALOGUE_ROWS = {"pg_statistic": _SINCE.format("starelid"), "pg_description": _SINCE.format("objoid")}


_HALF_WRITTEN = 1 << 16
# Bytes. Tables that take no more are read in one statement: each takes the server, which logs everything, a millisecond.
_SMALL = 4 << 20


def _digits(count: int) -> str:
    return "".join(str(secrets.randbelow(10)) for _ in range(count))


SHAPES: dict[str, Callable[[], str]] = {
    "text": lambda: f"PHI-{secrets.token_hex(8)}",  # 20 characters: fits varchar(20)
    "mrn": lambda: f"PHI-{secrets.token_hex(4)}",  # 12 characters: fits varchar(12)
    "ssn": lambda: f"9{_digits(2)}-{_digits(2)}-{_digits(4)}",  # no real SSN begins with a 9
    "phone": lambda: f"+1 ({_digits(3)}) {_digits(3)}-{_digits(4)}",
    "name": lambda: f"Zoë {secrets.token_hex(5).title()} Müller",  # not ASCII: encodings differ
}


def spellings(value: str) -> Iterator[bytes]:
    """Yield what to search for in a haystack without zero bytes whose ASCII letters were lowered: text, UTF-16, hex, escapes."""
    for exact in {value, value.lower(), value.upper()}:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "unicode_escape"):
            yield exact.encode(encoding).replace(b"\0", b"").lower()
        if exact.isascii() is False:
            yield exact.encode("latin-1", "ignore").lower()
        yield exact.encode().hex().encode()
        octal = "".join(c if c.isascii() else "".join(f"\\{b:03o}" for b in c.encode()) for c in exact)
        yield octal.lower().encode()  # bytea_output = escape
        yield json.dumps(exact)[1:-1].lower().encode()


def base64_spellings(value: str) -> Iterator[bytes]:
    """Yield the value in base64 at each of its three alignments, without the characters that its neighbours share."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + value.encode())
        start = (0, 2, 3)[shift]
        end = len(encoded) - (0, 3, 2)[(shift + len(value.encode())) % 3]
        if (shift + len(value.encode())) % 3:
            end -= 1
        yield encoded[start:end]


@lru_cache(maxsize=4096)
def _needles(value: str) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return the spellings of a value, and those in base64. Made once: they are searched for after each statement."""
    return frozenset(spellings(value)), frozenset(base64_spellings(value))


@lru_cache(maxsize=64)
def _searched_for(planted: tuple[str, ...]) -> tuple[_Needles, _Needles]:
    """Return all spellings of these values, and those in base64, for as long as no other is planted."""
    every = [_needles(value) for value in planted]
    return _Needles(set().union(*(plain for plain, _ in every))), _Needles(set().union(*(encoded for _, encoded in every)))


def _common_beginning(first: bytes, last: bytes) -> bytes:
    """Return what both begin with: so does all that is sorted between them."""
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


class _Needles:
    """What is searched for. Most values of a shape begin alike: where that beginning is not, none of them is."""

    def __init__(self, needles: Iterable[bytes]) -> None:
        alike: dict[bytes, list[bytes]] = {}
        for needle in needles:
            alike.setdefault(needle[:4], []).append(needle)
        self._by_beginning = [(_common_beginning(min(group), max(group)), group) for group in alike.values()]

    def any_in(self, haystack: bytes) -> bool:
        """Whether one of them is in these bytes."""
        return any(beginning in haystack and any(map(haystack.__contains__, group)) for beginning, group in self._by_beginning)


def _from(schema: str, table: str) -> tuple[sql.Identifier, sql.SQL]:
    """Return a table, and which of its rows are searched."""
    return sql.Identifier(schema, table), sql.SQL(_CATALOGUE_ROWS.get(table, ""))


class LeakOracle:
    """Values planted in one database, and the places where they must never be seen.

    Of a proxy's log, all is searched, unless the proxy is ``of_many`` tests: then what it has logged before says nothing of ours.
    """

    def __init__(
        self,
        server: PostgresServer,
        dbname: str,
        *,
        tap: Tap | None = None,
        proxy_logs: Callable[[], list[Path]] = list,
        files: Callable[[], Iterable[Path]] = tuple,
        of_many: bool = False,
    ) -> None:
        self.server = server
        self.dbname = dbname
        self.tap = tap
        self.proxy_logs = proxy_logs
        self.files = files
        self.planted: list[str] = []
        self._of_many = of_many
        self._began = time.time() - 1
        # Earlier tests' lines say nothing about ours.
        known = [*([server.log_path] if server.log_path else []), *(proxy_logs() if of_many else [])]
        self._log_starts = {path: path.stat().st_size for path in known if path.exists()}
        self._log_ends: dict[Path, int] = {}

    def plant(self, shape: str = "text") -> str:
        """Return a fresh value of a shape (text, mrn, ssn, phone, name) and remember it."""
        value = SHAPES[shape]()
        self.planted.append(value)
        return value

    def has_searched(self, log: Path, end: int) -> None:
        """Leave out of a log what is before: it was searched as it was written, or is of others."""
        self._log_starts[log] = end

    def contains(self, haystack: bytes) -> bool:
        """Whether any planted value is in these bytes, in any spelling."""
        if not haystack:
            return False
        plain, encoded = _searched_for(tuple(self.planted))
        dense = haystack.replace(b"\0", b"")  # files of a database are half of zeros, and UTF-16 is text between them
        return plain.any_in(dense.lower()) or encoded.any_in(dense)

    def _connected(self) -> AbstractContextManager[psycopg.Connection[tuple[object, ...]]]:
        return contextlib.nullcontext(self.server.standing(self.dbname)) if self._of_many else self.server.connect(self.dbname)

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Yield every place by name, with what is in it now."""
        with self._connected() as conn:
            tables = conn.execute(
                "SELECT n.nspname, c.relname, pg_table_size(c.oid) <= %s"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'"  # which only their sessions can read
                " AND (n.nspname NOT IN ('pg_catalog', 'information_schema')"
                " OR c.relname = ANY(%s)) ORDER BY 1, 2",
                (_SMALL, list(CATALOGUES)),
            ).fetchall()
            small = [(str(schema), str(table)) for schema, table, is_small in tables if is_small]
            rows_of = sql.SQL("SELECT {}, (SELECT string_agg((t.*)::text, E'\\n') FROM {} t{})")
            every = sql.SQL(" UNION ALL ").join(rows_of.format(sql.Literal(".".join(name)), *_from(*name)) for name in small)
            for name, rows in conn.execute(every).fetchall():
                text = rows if isinstance(rows, bytes) else str(rows or "").encode()  # bytes where it is SQL_ASCII
                yield f"table {name}", text.replace(b'""', b'"').replace(b"\\\\", b"\\")  # as the text of a row has them
            for schema, table, is_small in tables:
                if not is_small:
                    copied = sql.SQL("COPY (SELECT * FROM {} t{}) TO STDOUT").format(*_from(str(schema), str(table)))
                    with conn.cursor() as cur, cur.copy(copied) as copy:
                        yield f"table {schema}.{table}", b"".join(bytes(part) for part in copy)
            activity = conn.execute(
                "SELECT coalesce(string_agg(query || application_name, E'\\n'), '')"
                " FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                (self.dbname,),
            ).fetchone()
            assert activity is not None
            yield "pg_stat_activity", str(activity[0]).encode()
        for path in [*([self.server.log_path] if self.server.log_path else []), *self.proxy_logs()]:
            with path.open("rb") as log:
                if (start := self._log_starts.get(path, 0)) <= path.stat().st_size:
                    log.seek(start)
                data = log.read()
                self._log_ends[path] = log.tell()
                yield "the server log" if path == self.server.log_path else f"the proxy log {path.name}", data
        for path in self.files():
            with contextlib.suppress(FileNotFoundError):  # of an engine that works on
                if path.stat().st_mtime >= self._began:
                    yield f"the file {path}", path.read_bytes()
        if self.tap:
            for number, data in enumerate(self.tap.upstream()):
                yield f"the bytes sent upstream (connection {number})", data

    def leaks(self) -> list[str]:
        """Return the names of the places where a planted value is."""
        found = [name for name, data in self.places() if self.contains(data)]
        if not found:  # what is planted from now on is not in what was logged before; a line may have been half written
            self._log_starts.update({log: max(0, end - _HALF_WRITTEN) for log, end in self._log_ends.items()})
        return found

    def assert_no_leak(self) -> None:
        """Fail with the names of the places, never with the value."""
        assert self.planted, "nothing was planted: the oracle would pass whatever happened"
        found = self.leaks()
        assert not found, f"a planted value was found in {'; '.join(found)}"


def files_of(directory: Path) -> list[Path]:
    """Return all files under a directory in which somebody makes and removes some."""
    found = []
    for root, _, names in os.walk(directory):
        found += [path for name in names if (path := Path(root, name)).is_file() and not path.is_symlink()]
    return found
