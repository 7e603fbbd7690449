"""Two revisions side by side, pair by pair, so that a regression shows as a ratio.

    python -m benchmarks.compare REVISION [REVISION] [--rounds N] [--seconds N] [--only WORDS] [--beside TABLES …]

Each revision's proxy runs from a git worktree of its own (without a second revision: from this checkout as it is), in front of
one server and the same tables; they take turns, each round in the other order. Ratios are the second's to the first's: of the
least CPU time per query (what else runs on the machine only adds to it), and of each pair's CPU time and throughput the median and
the range. Two more things are compared by what they take, without ratios: DDL, start and poll beside many tables, and how long a
neighbour of heavy statements waits. Only these, as the recorded run has them:

    python -m benchmarks.compare REVISION --only 'many tables|heavy statements' --rounds 1
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import catalogue, stalls
from benchmarks.contenders import DIRECT, NO_POLICY, OTHER, SEALED, Contender
from benchmarks.load import Length, Taken, run_bulk, run_queries
from benchmarks.measures import middle
from benchmarks.site import CHECKOUT, PLAIN, PROTECTED, Site, say
from benchmarks.workloads import Bulk, Queries, bulks, queries
from phiproxy.demo.postgres import EmbeddedPostgres

HEAD = """\
| work, way | least CPU µs, first | second | ratio | CPU, pairs | throughput, pairs |
|---|---:|---:|---:|---:|---:|
"""
# Of the extent of heavy statements: early revisions take minutes for one of them.
SHARE = 0.1
DATABASES = {NO_POLICY: PLAIN, OTHER: PROTECTED, SEALED: PROTECTED}


@contextmanager
def checkout(revision: str | None, home: Path) -> Iterator[Path]:
    """Give a directory with this revision's files; None: the present ones."""
    if revision is None:
        yield CHECKOUT
        return
    place = home / f"revision-{revision.replace('/', '-')}"
    git = ["git", "-C", str(CHECKOUT), "worktree"]
    subprocess.run([*git, "add", "-q", "--detach", str(place), revision], check=True)
    try:
        yield place
    finally:
        subprocess.run([*git, "remove", "--force", str(place)], check=True)


def take(work: Queries | Bulk, way: Contender, site: Site, seconds: int) -> Taken:
    """Run one workload through one proxy."""
    return run_bulk(work, way, site) if isinstance(work, Bulk) else run_queries(work, way, site, Length(seconds))


def pairs(
    work: Queries | Bulk, ways: tuple[Contender, Contender], site: Site, arguments: argparse.Namespace
) -> list[tuple[Taken, Taken]]:
    """Measure both in turn, round by round, each round in the other order."""
    found = []
    for number in range(arguments.rounds):
        if number % 2:
            second = take(work, ways[1], site, arguments.seconds)
            found.append((take(work, ways[0], site, arguments.seconds), second))
        else:
            found.append((take(work, ways[0], site, arguments.seconds), take(work, ways[1], site, arguments.seconds)))
    return found


def line(title: str, found: list[tuple[Taken, Taken]]) -> str:
    """Return one row of the table."""
    cpu, rate = [b.cpu / a.cpu for a, b in found], [b.rate / a.rate for a, b in found]
    first, second = (min(pair[i].cpu for pair in found) for i in (0, 1))
    shown = [f"{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" for ratios in (cpu, rate)]
    return f"| {title} | {first:.1f} | {second:.1f} | {second / first:.3f} | {shown[0]} | {shown[1]} |"


def many_tables(site: Site, places: Sequence[Path], arguments: argparse.Namespace) -> None:
    """Print what both revisions cost beside many tables, one after the other beside as many."""
    for tables in arguments.beside:
        found = [catalogue.beside(site, tables, 2 * arguments.rounds, arguments.seconds * 5, place) for place in places]
        sys.stdout.write(f"{catalogue.TITLE}, the first revision above the second\n\n{catalogue.table(found)}\n")
        sys.stdout.flush()


def neighbours(site: Site, proxies: Sequence[tuple[int, tuple[int, ...]]]) -> None:
    """Print how long a neighbour of heavy statements waits with each revision."""
    first, second = (port for port, _ in proxies)
    ways = {DIRECT: (site.server.port, PLAIN), "the first revision": (first, PROTECTED), "the second": (second, PROTECTED)}
    found = stalls.measure(site, ways, SHARE, say)
    sys.stdout.write(f"{stalls.TITLE}, at {SHARE:.0%} of their extent\n\n{stalls.table(found)}\n")
    sys.stdout.flush()


def circumstances(revisions: Sequence[str | None]) -> str:
    """Return what is compared, on how many processors, and how busy these are with other things."""
    describe = ["git", "-C", str(CHECKOUT), "describe", "--always"]
    said = [subprocess.run([*describe, r or "--dirty"], check=True, capture_output=True, text=True).stdout for r in revisions]
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    return f"{said[0].strip()} and {said[1].strip()}; {os.cpu_count()} processors, load averages before: {load}\n\n"


def main() -> None:
    """Compare, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="+", metavar="REVISION")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument(
        "--beside", type=int, nargs="*", default=[0, 500, 5_000], metavar="TABLES", help="DDL beside so many tables"
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="only workloads with one of these words in their names: a|b")
    arguments = parser.parse_args()
    first, second = (*arguments.revisions, None)[:2]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedPostgres(settings={"max_connections": "200"}))
        site = Site(server, home, rows=arguments.rows, scale=1)
        site.prepare()
        places = [stack.enter_context(checkout(r, home)) for r in (first, second)]
        sys.stdout.write(circumstances((first, second)))
        words = arguments.only.split("|")
        if any(word in catalogue.TITLE for word in words):
            many_tables(site, places, arguments)
        proxies = [stack.enter_context(site.proxy(checkout=place)) for place in places]
        site.load(proxies[0][0])
        if any(word in stalls.TITLE for word in words):
            neighbours(site, proxies)
        everything: list[Queries | Bulk] = [*queries(), *bulks()]
        chosen = [work for work in everything if any(word in work.title for word in words)]
        if chosen:
            sys.stdout.write(HEAD)
        for work in chosen:
            for name in (w for w in work.ways if w in DATABASES):
                ways = [Contender(name, port, DATABASES[name], pids) for port, pids in proxies]
                found = pairs(work, (ways[0], ways[1]), site, arguments)
                sys.stdout.write(line(f"{work.title}, {name}", found) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
