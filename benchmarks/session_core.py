"""What the session core costs by itself: recorded bytes in from both sides, bytes out, no sockets; CPU time per query.

    python -m benchmarks.session_core [--profile CASE] [--rounds N]

Process time, the least of many short rounds: what other processes do to a shared machine only ever adds.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from phiproxy.plan.planner import Planner
from phiproxy.session.core import Session
from tests.clinic_model import CATALOG, PROTECTION, relation
from tests.session import frames as f
from tests.session.screenplay import CIPHERS, FULL_NAME, MRN, SSN, FakeDatabase, Screenplay, envelope, hexed

QUERIES = 50
SECRET = b"078-05-1120"
PLAIN = "SELECT id, msg FROM log WHERE id = $1"
SIMPLE = "SELECT id, msg FROM log WHERE id = %d"
BY_TAG = "SELECT ssn, full_name, mrn, city FROM public.patients WHERE ssn = $1"
BY_LITERAL = "SELECT ssn, full_name, mrn, city FROM public.patients WHERE ssn = '%09d'"
INSERT = "INSERT INTO public.patients (id, ssn, full_name, mrn) VALUES ($1, $2, $3, $4)"
TPC_B = (
    b"BEGIN;",
    b"UPDATE pgbench_accounts SET abalance = abalance + %d WHERE aid = %d;",
    b"SELECT abalance FROM pgbench_accounts WHERE aid = %d;",
    b"UPDATE pgbench_tellers SET tbalance = tbalance + %d WHERE tid = %d;",
    b"UPDATE pgbench_branches SET bbalance = bbalance + %d WHERE bid = %d;",
    b"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (%d, %d, %d, %d, CURRENT_TIMESTAMP);",
    b"END;",
)
ALL_PLAIN = "SELECT id, msg FROM log"
ALL_SEALED = "SELECT id, ssn, full_name, mrn, city, active FROM public.patients"

Exchange = tuple[bytes, bytes]


@dataclass
class Case:
    """``before`` is said once; ``exchange`` gives what client and server say for the n-th query; ``per`` rows are in each."""

    name: str
    before: Exchange
    exchange: Callable[[int], Exchange]
    queries: int = QUERIES
    per: int = 1


def sealed_row(text: bool) -> bytes:  # noqa: FBT001 - the protocol's own choice
    """Return a row of three protected fields and one that is not."""
    values = [envelope(SSN, SECRET), envelope(FULL_NAME, b"Ada Lovelace"), envelope(MRN, b"MRN-00001")]
    return f.data_row(*(hexed(v) if text else v for v in values), b"Turku")


def fresh_row() -> bytes:
    """Return such a row, sealed under a record key of its own."""
    record = CIPHERS.draw(SSN.scope, 1)[0]
    values = ((SSN, SECRET), (FULL_NAME, b"Ada Lovelace"), (MRN, b"MRN-00001"))
    return f.data_row(*(CIPHERS.stores([c])[c](v, record) for c, v in values), b"Turku")


def wide_rows(count: int) -> bytes:
    """Return rows of three protected fields and three that are not, each sealed under a record key of its own."""
    rows = []
    for _ in range(count):
        record = CIPHERS.draw(SSN.scope, 1)[0]
        sealed = [CIPHERS.stores([c])[c](v, record) for c, v in ((SSN, SECRET), (FULL_NAME, b"Ada Lovelace"))]
        rows.append(f.data_row(b"1", *sealed, envelope(MRN, b"MRN-1"), b"Turku", b"t"))
    return b"".join(rows)


def cases() -> list[Case]:
    """Return what is measured."""
    done = f.command_complete("SELECT 1") + f.ready()
    inside = f.command_complete("SELECT 1") + f.ready("T")
    bound = f.PARSE_COMPLETE
    plain_fields = f.column("id", 23, table=102, attnum=1), f.column("msg", table=102, attnum=2)
    sealed_fields = [
        *(f.column(n, 17, table=100, attnum=a) for n, a in (("ssn", 2), ("full_name", 3), ("mrn", 4))),
        f.column("city", table=100, attnum=6),
    ]
    plain_row = f.data_row(b"\0\0\0\x07", b"value-7")
    whole_row = sealed_row(text=False)
    text_row = sealed_row(text=True)
    described = f.row_description(*plain_fields)

    def prepared(value: bytes) -> bytes:
        return f.bind(value, statement="s", formats=(1,), results=(1,)) + f.describe() + f.execute() + f.SYNC

    def transfer(n: int) -> Exchange:
        text = TPC_B[n % 7]
        said = f.query((text % ((n,) * text.count(b"%d"))).decode())
        return said, done if text == b"END;" else inside

    return [
        Case("simple, unprotected, a statement of TPC-B", (b"", b""), transfer, queries=2100),
        Case(
            "simple, unprotected",
            (b"", b""),
            lambda n: (f.query(SIMPLE % n), described + f.data_row(b"7", b"value-7") + done),
        ),
        Case(
            "prepared, unprotected (Bind, Describe, Execute, Sync)",
            (f.parse(PLAIN, "s") + f.SYNC, bound + f.ready()),
            lambda n: (prepared(n.to_bytes(4, "big")), f.BIND_COMPLETE + described + plain_row + done),
        ),
        Case(
            "prepared, unprotected (Bind, Execute, Sync)",
            (f.parse(PLAIN, "s") + f.SYNC, bound + f.ready()),
            lambda n: (
                f.bind(n.to_bytes(4, "big"), statement="s", formats=(1,), results=(1,)) + f.execute() + f.SYNC,
                f.BIND_COMPLETE + plain_row + done,
            ),
        ),
        Case(
            "extended, unprotected (Parse to Sync)",
            (b"", b""),
            lambda n: (
                f.parse(PLAIN) + f.bind(b"%d" % n) + f.describe() + f.execute() + f.SYNC,
                bound + f.BIND_COMPLETE + described + plain_row + done,
            ),
        ),
        Case(
            "extended, BEGIN (Parse to Sync)",
            (b"", b""),
            lambda _: (
                f.parse("BEGIN;") + f.bind() + f.describe() + f.execute() + f.SYNC,
                bound + f.BIND_COMPLETE + f.NO_DATA + f.command_complete("BEGIN") + f.ready("T"),
            ),
        ),
        Case(
            "prepared, by tag, 3 columns opened (Bind, Execute, Sync)",
            (f.parse(BY_TAG, "s") + f.SYNC, bound + f.ready()),
            lambda n: (
                f.bind(b"%09d" % n, statement="s", results=(1,)) + f.execute() + f.SYNC,
                f.BIND_COMPLETE + whole_row + done,
            ),
        ),
        Case(
            "the same with Describe, another row each time, as pgbench asks",
            (f.parse(BY_TAG, "s") + f.SYNC, bound + f.ready()),
            lambda n: (
                f.bind(b"%09d" % n, statement="s") + f.describe() + f.execute() + f.SYNC,
                f.BIND_COMPLETE + f.row_description(*sealed_fields) + fresh_row() + done,
            ),
            queries=200,  # each row has a record key of its own
        ),
        Case(
            "simple, by literal, 3 columns opened, shape seen",
            (b"", b""),
            lambda n: (f.query(BY_LITERAL % n), f.row_description(*sealed_fields) + text_row + done),
        ),
        Case(
            "prepared, insert of 3 protected columns",
            (f.parse(INSERT, "s") + f.SYNC, bound + f.ready()),
            lambda n: (
                f.bind(b"%d" % n, b"%09d" % n, b"Ada Lovelace", b"MRN-1", statement="s") + f.execute() + f.SYNC,
                f.BIND_COMPLETE + f.command_complete("INSERT 0 1") + f.ready(),
            ),
        ),
        Case(
            "100 rows, unprotected",
            (f.parse(ALL_PLAIN, "s") + f.SYNC, bound + f.ready()),
            lambda n: (f.bind(statement="s") + f.execute() + f.SYNC, f.BIND_COMPLETE + plain_row * 100 + done),
            queries=20,
        ),
        Case(
            "100 rows, 3 of 6 columns opened",
            (f.parse(ALL_SEALED, "s") + f.SYNC, bound + f.ready()),
            lambda n: (f.bind(statement="s") + f.execute() + f.SYNC, f.BIND_COMPLETE + wide_rows(100) + done),
            queries=15,
        ),
    ]


def login() -> Session:
    """Return a session that is logged in, to a database that has the tables of TPC-B too."""
    tables = ("accounts", "tellers", "branches", "history")
    own = tuple(relation(200 + i, "public", f"pgbench_{name}", "tid") for i, name in enumerate(tables))
    catalog = replace(CATALOG, relations=(*CATALOG.relations, *own))
    return Screenplay(FakeDatabase(Planner(PROTECTION, catalog, CIPHERS))).session


def play(session: Session, said: list[Exchange]) -> None:
    """Feed what was recorded, and take what comes out as the relay does."""
    for client, server in said:
        need = session.from_client(client)
        out, session.to_server = session.to_server, []
        b"".join(out)
        need = need or session.from_server(server)
        if need is not None:
            raise RuntimeError(f"the session waits for {need}: what follows would only be buffered")
        out, session.to_client = session.to_client, []
        b"".join(out)


def measure(case: Case, rounds: int) -> float:
    """Return CPU microseconds per query."""
    session = login()
    if case.before[0]:
        play(session, [case.before])
    said = [case.exchange(n) for n in range(case.queries)]
    play(session, said[:10])
    best = float("inf")
    for _ in range(max(rounds * QUERIES // case.queries, 1)):
        begin = time.process_time_ns()
        play(session, said)
        best = min(best, time.process_time_ns() - begin)
    if session.closed or session.pipeline.queue or session.counters.refused or session.counters.open_failures:
        raise RuntimeError(case.name)
    return best / case.queries / 1000


def profile(case: Case) -> None:
    """Print where the time goes."""
    session = login()
    if case.before[0]:
        play(session, [case.before])
    said = [case.exchange(n) for n in range(case.queries)] * 10
    profiler = cProfile.Profile()
    profiler.runcall(play, session, said)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


def main() -> None:
    """Measure every case and print a table, or profile one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=int, metavar="CASE", help="the number of the case to profile")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", type=int, metavar="CASE", help="the number of the one case to measure")
    arguments = parser.parse_args()
    known = cases() if arguments.only is None else [cases()[arguments.only]]
    if arguments.profile is not None:
        profile(known[arguments.profile])
        return
    print("| case | CPU µs per query |\n|---|---|")  # noqa: T201
    for case in known:
        print(f"| {case.name} | {measure(case, arguments.rounds):.2f} |")  # noqa: T201


if __name__ == "__main__":
    main()
