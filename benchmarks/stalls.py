"""What one heavy statement does to its neighbours: its own time, and how long another session's ``SELECT 1`` waits meanwhile.

    python -m benchmarks.stalls [--quick] [--before CHECKOUT]      (before: also through a proxy of another checkout, in turns)

The neighbour is a process of its own that asks one question after the other, through the same proxy. What it waits in front of the
server itself is measured too: some of a wait is the machine's.
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
from psycopg import pq

from benchmarks.contenders import DIRECT, SEALED
from benchmarks.measures import percentile
from benchmarks.site import CHECKOUT, PLAIN, PROTECTED, SETTINGS, Site, copied, say

BEFORE = "phiproxy before, encrypted"
TITLE = "heavy statements and their neighbours"
PAUSE = 0.001
QUIET = 0.3
STATUS_OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


@dataclass(frozen=True)
class Heavy:
    """One heavy statement; ``work`` runs it, and is given the share of the full extent that is measured."""

    name: str
    work: Callable[[pq.abc.PGconn, float], None]


@dataclass(frozen=True)
class Stall:
    """What was measured one way: the statement's seconds, and its neighbour's milliseconds (the median while nothing else runs)."""

    statement: str
    way: str
    seconds: float
    quiet: float
    p99: float
    longest: float


class Failed(Exception):
    """A statement failed that was to be measured."""


def _check(result: pq.abc.PGresult, *wanted: int) -> None:
    if result.status not in (wanted or STATUS_OK):
        raise Failed(result.error_message.decode("utf-8", "replace")[:300])


def _rows(share: float, rows: int) -> int:
    return max(20, int(rows * share))


def _insert_parameters(connection: pq.abc.PGconn, share: float, *, binary: bool) -> None:
    rows = _rows(share, 65_535 // 3)
    text = "INSERT INTO intake (ssn, full_name, diagnosis) VALUES " + ", ".join(
        f"(${3 * r + 1}, ${3 * r + 2}, ${3 * r + 3})" for r in range(rows)
    )
    values = [v for r in range(rows) for v in (b"%09d" % r, b"name %d" % r, b"E%02d" % (r % 40))]
    _check(connection.exec_params(text.encode(), values, param_formats=[int(binary)] * len(values)))


def _insert_literals(connection: pq.abc.PGconn, share: float) -> None:
    rows = (f"('{r:09}', 'name {r}', 'E{r % 40:02}')" for r in range(_rows(share, 65_536)))
    _check(connection.exec_(f"INSERT INTO intake (ssn, full_name, diagnosis) VALUES {', '.join(rows)}".encode()))


def _in_list(connection: pq.abc.PGconn, share: float) -> None:
    listed = ",".join(f"'{r:09}'" for r in range(_rows(share, 20_000)))
    _check(connection.exec_(f"SELECT id FROM people WHERE ssn IN ({listed})".encode()))


def _many_statements(connection: pq.abc.PGconn, share: float) -> None:
    texts = (f"UPDATE changes SET ssn = '{r:09}' WHERE id = {r}" for r in range(_rows(share, 1_000)))
    _check(connection.exec_("; ".join(texts).encode()))


def _long_literal(connection: pq.abc.PGconn, share: float) -> None:
    value = "x" * int(5_000_000 * share)
    _check(connection.exec_(f"INSERT INTO arrivals (id, ssn, full_name, diagnosis) VALUES (-2, 'x', 'x', '{value}')".encode()))


def _unprotected_text(connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_(f"SELECT length('{'x' * int(5_000_000 * share)}')".encode()))


def _big_value(connection: pq.abc.PGconn, share: float) -> None:
    value = b"x" * int(100_000_000 * share)
    _check(connection.exec_(b"DELETE FROM arrivals WHERE id = -1"))
    _check(connection.exec_params(b"INSERT INTO arrivals (id, ssn, full_name, diagnosis) VALUES (-1, 'x', 'x', $1)", [value]))


def _big_result(connection: pq.abc.PGconn, _share: float) -> None:
    result = connection.exec_params(b"SELECT diagnosis FROM arrivals WHERE id = -1 LIMIT 1", [], result_format=1)
    _check(result)
    if result.ntuples != 1:
        raise Failed("there is no long value to be read")


def _copy_rows(connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_(b"COPY arrivals FROM STDIN"), pq.ExecStatus.COPY_IN)
    connection.put_copy_data(copied(_rows(share, 100_000)))
    connection.put_copy_end()
    while (result := connection.get_result()) is not None:
        _check(result)


def _all_rows(connection: pq.abc.PGconn, share: float) -> None:
    rows = _rows(share, 100_000)
    result = connection.exec_(f"SELECT p.* FROM people p, generate_series(1, 100) n LIMIT {rows}".encode())
    _check(result)
    if result.ntuples != rows:
        raise Failed("rows are missing")


def _copy_in(connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_(b"DELETE FROM arrivals WHERE id = -3"))
    _check(connection.exec_(b"COPY arrivals (id, ssn, full_name, diagnosis) FROM STDIN"), pq.ExecStatus.COPY_IN)
    connection.put_copy_data(b"-3\tx\tx\t")
    piece = b"x" * 65_536
    for _ in range(int(100_000_000 * share) // len(piece)):
        connection.put_copy_data(piece)
    connection.put_copy_data(b"\n")
    connection.put_copy_end()
    while (result := connection.get_result()) is not None:
        _check(result)


def _copy_out(connection: pq.abc.PGconn, _share: float) -> None:
    _check(connection.exec_(b"COPY (SELECT diagnosis FROM arrivals WHERE id = -3) TO STDOUT"), pq.ExecStatus.COPY_OUT)
    size = 0
    while (got := connection.get_copy_data(0))[0] > 0:
        size += got[0]
    while (result := connection.get_result()) is not None:
        _check(result)
    if size < 1_000_000:
        raise Failed("there is no long field to be read")


def _in_latin1(work: Callable[[pq.abc.PGconn, float], None], connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_(b"SET client_encoding TO 'LATIN1'"))
    work(connection, share)


def _accented_literal(connection: pq.abc.PGconn, share: float) -> None:
    value = b"caf\xe9 " * int(1_000_000 * share)
    _check(connection.exec_(b"INSERT INTO arrivals (id, ssn, full_name, diagnosis) VALUES (-4, 'x', 'x', '%b')" % value))


def _accented_value(connection: pq.abc.PGconn, share: float) -> None:
    value = b"caf\xe9 " * int(20_000_000 * share)
    _check(connection.exec_(b"DELETE FROM arrivals WHERE id = -5"))
    _check(connection.exec_params(b"INSERT INTO arrivals (id, ssn, full_name, diagnosis) VALUES (-5, 'x', 'x', $1)", [value]))


def _accented_result(connection: pq.abc.PGconn, _share: float) -> None:
    _check(connection.exec_params(b"SELECT diagnosis FROM arrivals WHERE id = -5 LIMIT 1", []))


def _document(share: float, note: str = "note") -> bytes:
    """Return a document of 10 MB: notes by the ten thousand, which are sealed one by one, and what is in clear."""
    texts = (f"{note} {n}: nothing to be seen" for n in range(int(60_000 * share)))
    notes = [{"note": text, "on": "2026-11-28", "by": "Ada", "n": n} for n, text in enumerate(texts)]
    clear = [f"a text in clear, number {n}" for n in range(int(200_000 * share))]
    return json.dumps({"ssn": "123-45-6789", "history": notes, "tags": clear}).encode()


def _document_marked(share: float) -> bytes:
    """Return one whose notes begin as what is stored does."""
    return _document(share, "phi1:f55001")


def _document_wide(share: float) -> bytes:
    """Return one of 10 MB that is one object of many keys."""
    return json.dumps({"ssn": "123-45-6789", **{f"measured at {n}": n / 10 for n in range(int(400_000 * share))}}).encode()


def _document_of_one_text(share: float) -> bytes:
    """Return one of 10 MB, nearly all of which is one note full of escapes."""
    note = 'she said: "no"\n\tcaf\xe9 \U0001f600 ' * int(300_000 * share)
    return json.dumps({"ssn": "123-45-6789", "history": [{"note": note}]}).encode()


def _document_value(connection: pq.abc.PGconn, share: float, document: Callable[[float], bytes] = _document) -> None:
    _check(connection.exec_(b"DELETE FROM documents"))
    _check(connection.exec_params(b"INSERT INTO documents (id, doc) VALUES (1, $1)", [document(share)]))


def _document_refused(connection: pq.abc.PGconn, share: float) -> None:
    document = _document(share).removesuffix(b"}") + b', "ssn": 5}'
    _check(connection.exec_params(b"INSERT INTO documents (id, doc) VALUES (0, $1)", [document]), pq.ExecStatus.FATAL_ERROR)


def _document_update(connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_params(b"UPDATE documents SET doc = $1 WHERE id = 1", [_document(share)]))


def _document_copied_in(connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_(b"DELETE FROM documents"))
    _check(connection.exec_(b"COPY documents (id, doc) FROM STDIN"), pq.ExecStatus.COPY_IN)
    data = b"1\t%b\n" % _document(share)
    for at in range(0, len(data), 65_536):
        connection.put_copy_data(data[at : at + 65_536])
    connection.put_copy_end()
    while (result := connection.get_result()) is not None:
        _check(result)


def _document_copied_out(connection: pq.abc.PGconn, _share: float) -> None:
    _check(connection.exec_(b"COPY (SELECT doc FROM documents WHERE id = 1) TO STDOUT"), pq.ExecStatus.COPY_OUT)
    while connection.get_copy_data(0)[0] > 0:
        pass
    while (result := connection.get_result()) is not None:
        _check(result)


def _document_literal(connection: pq.abc.PGconn, share: float) -> None:
    _check(connection.exec_(b"DELETE FROM documents WHERE id = 2"))
    _check(connection.exec_(b"INSERT INTO documents (id, doc) VALUES (2, '%b')" % _document(share / 4)))


def _document_result(connection: pq.abc.PGconn, _share: float) -> None:
    result = connection.exec_params(b"SELECT doc FROM documents WHERE id = 1", [])
    _check(result)
    if result.ntuples != 1:
        raise Failed("there is no document to be read")


def _documents(connection: pq.abc.PGconn, share: float) -> None:
    """Write and read 20 documents of half a megabyte, none of which is long by itself."""
    _check(connection.exec_(b"DELETE FROM documents WHERE id > 2"))
    document = _document(share / 20)
    for number in range(3, 23):
        _check(connection.exec_params(b"INSERT INTO documents (id, doc) VALUES (%d, $1)" % number, [document]))
    _check(connection.exec_params(b"SELECT doc FROM documents WHERE id > 2", [], result_format=1))


HEAVY = (
    Heavy("INSERT of 65 535 parameters, text", partial(_insert_parameters, binary=False)),
    Heavy("INSERT of 65 535 parameters, binary", partial(_insert_parameters, binary=True)),
    Heavy("INSERT of 65 536 literal rows", _insert_literals),
    Heavy("IN list of 20 000 literals", _in_list),
    Heavy("1 000 UPDATEs in one text", _many_statements),
    Heavy("100 000 rows as a result", _all_rows),
    Heavy("100 000 rows by COPY FROM", _copy_rows),
    Heavy("a literal of 5 MB", _long_literal),
    Heavy("an unprotected text of 5 MB", _unprotected_text),
    Heavy("a value of 100 MB as a parameter", _big_value),
    Heavy("a value of 100 MB as a result", _big_result),
    Heavy("a field of 100 MB by COPY FROM", _copy_in),
    Heavy("a field of 100 MB by COPY TO", _copy_out),
    Heavy("a document of 10 MB with sealed fields as a parameter", _document_value),
    Heavy("a document of 2.5 MB with sealed fields as a literal", _document_literal),
    Heavy("a document of 10 MB with sealed fields as a result", _document_result),
    Heavy("20 documents of 0.5 MB with sealed fields, written and read", _documents),
    Heavy("an UPDATE to a document of 10 MB with sealed fields", _document_update),
    Heavy("a document of 10 MB with sealed fields by COPY FROM", _document_copied_in),
    Heavy("a document of 10 MB with sealed fields by COPY TO", _document_copied_out),
    Heavy("a document of 10 MB with fields that look like sealed ones", partial(_document_value, document=_document_marked)),
    Heavy("a document of 10 MB that is one object", partial(_document_value, document=_document_wide)),
    Heavy("a document of 10 MB that is one sealed text", partial(_document_value, document=_document_of_one_text)),
    Heavy("a document of 10 MB that is one sealed text as a result", _document_result),
    Heavy("a document of 10 MB that is refused", _document_refused),
    Heavy("a literal of 5 MB in LATIN1", partial(_in_latin1, _accented_literal)),
    Heavy("a value of 100 MB in LATIN1 as a parameter", partial(_in_latin1, _accented_value)),
    Heavy("a value of 100 MB in LATIN1 as a result", partial(_in_latin1, _accented_result)),
)


@contextmanager
def neighbour(dsn: str) -> Iterator[Callable[[], list[tuple[float, float]]]]:
    """Run a neighbour; what is given ends it and returns when it asked (monotonic seconds), and its waits in milliseconds."""
    command = [sys.executable, "-m", "benchmarks.stalls", "--neighbour"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(dsn + "\n")
        process.stdin.flush()
        process.stdout.readline()

        def ended() -> list[tuple[float, float]]:
            out, _ = process.communicate("\n")
            return [(begun, waited) for begun, waited in json.loads(out)]

        try:
            yield ended
        finally:
            process.kill()


def be_neighbour() -> None:
    """Ask one question after the other until standard input says something, and print how long each took."""
    dsn = sys.stdin.readline().strip()
    waits: list[tuple[float, float]] = []
    told = select.poll()
    told.register(sys.stdin, select.POLLIN)
    with psycopg.connect(dsn, autocommit=True) as connection:
        raw = connection.pgconn
        _check(raw.exec_(b"SELECT 1"))
        sys.stdout.write("\n")
        sys.stdout.flush()
        while not told.poll(0):
            begun = time.monotonic()
            _check(raw.exec_(b"SELECT 1"))
            waits.append((begun, (time.monotonic() - begun) * 1e3))
            time.sleep(PAUSE)
    sys.stdout.write(json.dumps(waits))


def waited(statement: str, way: str, asked: list[tuple[float, float]], begun: float, seconds: float) -> Stall:
    """Return how long a neighbour waited for what it ``asked`` beside a statement that took so many seconds from ``begun`` on."""
    quiet = [waited for at, waited in asked if at < begun]
    waits = [waited for at, waited in asked if begun <= at + waited / 1e3 and at <= begun + max(seconds, QUIET)]
    return Stall(statement, way, seconds, percentile(quiet, 0.5), percentile(waits, 0.99), max(waits))


def measure(site: Site, ways: dict[str, tuple[int, str]], share: float, say: Callable[[str], None], only: str = "") -> list[Stall]:
    """Run every heavy statement each way, one after the other, with a neighbour; one that fails is said, and left out.

    Other revisions may not know it yet.
    """
    found = []
    for heavy in HEAVY:
        if only not in heavy.name:
            continue
        for way, (port, database) in ways.items():
            dsn = site.dsn(port, database)
            with closing(psycopg.connect(dsn, autocommit=True)) as connection, neighbour(dsn) as ended:
                time.sleep(QUIET)
                begun = time.monotonic()
                try:
                    heavy.work(connection.pgconn, share)
                except (Failed, psycopg.Error) as error:
                    say(f"{heavy.name} | {way}: {str(error).strip()}")
                    continue
                seconds = time.monotonic() - begun
                time.sleep(max(0.0, QUIET - seconds))  # a short one is over before the neighbour has asked
                asked = ended()
            one = waited(heavy.name, way, asked, begun, seconds)
            found.append(one)
            say(
                f"{one.statement} | {way}: {seconds:.2f} s, the neighbour waits {one.p99:.1f} (p99), {one.longest:.1f} ms (longest)"
            )
    return found


def table(stalls: list[Stall]) -> str:
    """Return what was measured as a Markdown table."""
    lines = [
        "| heavy statement | way | seconds | `SELECT 1` beside it, p99 ms | longest ms | median without it, ms |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {s.statement} | {s.way} | {s.seconds:.2f} | {s.p99:.1f} | {s.longest:.1f} | {s.quiet:.2f} |" for s in stalls]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table."""
    from phiproxy.demo.postgres import EmbeddedPostgres  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--only", default="", help="a part of the names of what is measured")
    parser.add_argument("--neighbour", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.neighbour:
        be_neighbour()
        return
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(settings=SETTINGS) as server, ExitStack() as stack:
        site = Site(server, Path(directory), rows=2_000, scale=1)
        site.prepare()
        port, _ = stack.enter_context(site.proxy())
        site.load(port)
        ways = {DIRECT: (server.port, PLAIN), SEALED: (port, PROTECTED)}
        if arguments.before is not None:
            before, _ = stack.enter_context(site.proxy(checkout=arguments.before))
            ways[BEFORE] = (before, PROTECTED)
        sys.stdout.write(table(measure(site, ways, 0.05 if arguments.quick else 1.0, say, arguments.only)))


if __name__ == "__main__":
    main()
