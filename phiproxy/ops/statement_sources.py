"""Where an application's statements can be had before it goes through the proxy: ``pg_stat_statements``, and the server's log.

Texts of the log hold values. They are analysed and forgotten; what is reported of them is without (``sql.text.observed_text``).
"""

import asyncio
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError

Connection = psycopg.AsyncConnection[Any]
STATEMENTS = "pg_stat_statements"

# Lines of a log in text begin with whatever log_line_prefix says; those that go on begin with a tab.
# Rows that are fetched later, of a portal, are no other execution.
_SAID = re.compile(
    r"LOG:  (?:[0-9A-Z]{5}: )?(?:duration: [\d.]+ ms  )?(?:statement|execute (?!fetch from ).*?): (?P<text>.*)", re.DOTALL
)
_SEVERITY = "DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC"
_BEGINS = re.compile(rf"\b(?:{_SEVERITY}|DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION|BACKTRACE):  ")
# ``date '2001-01-01'`` is ``date $1`` in pg_stat_statements, which is no SQL.
_TYPED = re.compile(
    r"\b(date|timestamptz|timestamp(?:\s+with(?:out)?\s+time\s+zone)?|timetz|time(?:\s+with(?:out)?\s+time\s+zone)?|interval|uuid|inet|numeric"
    r"|jsonb?|bool(?:ean)?|text)\s+(\$\d+)",
    re.IGNORECASE,
)
_DATABASE_COLUMN, _SEVERITY_COLUMN, _MESSAGE_COLUMN = 2, 11, 13
_LONGEST_FIELD = 1 << 30  # of a log in CSV: PostgreSQL takes no longer text


async def statements_of(conn: Connection, source: str) -> Counter[bytes]:
    """Return the texts of a source, each with how often it was sent. ConfigError where there is none, psycopg.Error."""
    if source == STATEMENTS:
        return await _of_extension(conn)
    return await asyncio.to_thread(_of_file, Path(source), conn.info.dbname)


def _of_file(path: Path, database: str) -> Counter[bytes]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file (SOURCE is pg_stat_statements, or a log file of the server's)")
    with path.open(encoding="utf-8", errors="replace", newline="\n") as log:  # a statement may have a carriage return
        return Counter(text.encode() for text in logged(log, database))


async def _of_extension(conn: Connection) -> Counter[bytes]:
    """Read what pg_stat_statements has of this database, but for what functions and COPY have sent themselves."""
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        query = (
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
            " WHERE e.extname = %s"
        )
        await cursor.execute(query, (STATEMENTS,))
        found = await cursor.fetchone()
        if found is None:
            raise ConfigError("this database has no extension pg_stat_statements", hint="CREATE EXTENSION pg_stat_statements;")
        await cursor.execute(
            sql.SQL(
                "SELECT query, pg_catalog.sum(calls)::int8 FROM {} s WHERE dbid = (SELECT oid FROM pg_catalog.pg_database"
                " WHERE datname = pg_catalog.current_database()) AND query IS NOT NULL"
                # Which an extension that was not updated since PostgreSQL 13 does not say.
                " AND coalesce((pg_catalog.to_jsonb(s)->>'toplevel')::bool, true) GROUP BY 1"
            ).format(sql.Identifier(found[0], STATEMENTS))
        )
        counts: Counter[bytes] = Counter()
        for text, calls in await cursor.fetchall():
            if text == "<insufficient privilege>":
                role = conn.info.user
                raise ConfigError(
                    "the service role may not read other roles' statements", hint=f'GRANT pg_read_all_stats TO "{role}";'
                )
            counts[_TYPED.sub(r"\2::\1", text).encode()] += calls
        return counts


def logged(lines: Iterable[str], database: str) -> Iterator[str]:
    """Yield the statements of a server's log, in any of its three formats; of CSV and JSON those of this database.

    ``2026-11-27 12:00:00 UTC [7] LOG:  execute s1: SELECT 1`` gives ``SELECT 1``; ``duration: … parse`` and ``bind`` lines, which
    tell of the same execution, give nothing.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    iterator = iter(lines)
    first = next(iterator, "")
    everything = _chained(first, iterator)
    if first.startswith("{"):
        messages = _of_json(everything, database)
    elif _is_csv(first):
        messages = _of_csv(everything, database)
    else:
        messages = _of_text(everything)
    for message in messages:
        begin = _BEGINS.search(message)  # what a value has further on is no message
        said = _SAID.match(message, begin.start()) if begin is not None else None
        if said is not None:
            yield said["text"].strip()


def _is_csv(first: str) -> bool:
    """Tell whether a log's first line is of CSV: of a statement of several lines it has the columns before that."""
    try:
        columns = next(csv.reader(StringIO(first)), [])
    except csv.Error:
        return False
    return len(columns) > _SEVERITY_COLUMN and re.fullmatch(_SEVERITY, columns[_SEVERITY_COLUMN]) is not None


def _chained(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others


def _of_json(lines: Iterable[str], database: str) -> Iterator[str]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a log that is being written
        if isinstance(entry, dict) and entry.get("dbname") == database:
            yield f"{entry.get('error_severity', '')}:  {entry.get('message', '')}"


def _of_csv(lines: Iterable[str], database: str) -> Iterator[str]:
    for row in csv.reader(lines):
        if len(row) > _MESSAGE_COLUMN and row[_DATABASE_COLUMN] == database:
            yield f"{row[_SEVERITY_COLUMN]}:  {row[_MESSAGE_COLUMN]}"


def _of_text(lines: Iterable[str]) -> Iterator[str]:
    message: list[str] = []
    for line in lines:
        if line.startswith("\t") and message:
            message.append(line[1:])
        elif _BEGINS.search(line):
            yield "".join(message)
            message = [line]
        else:
            message = []
    yield "".join(message)
