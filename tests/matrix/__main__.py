"""``python -m tests.matrix --seed S --count N [--start I] [--report FILE]``: run cases and tell what failed, by kind."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.harness.server import running_server
from tests.matrix.cases import case
from tests.matrix.runner import Result, Runner, Tally, matrix_site, oracle_of


def ranked(results: list[Result]) -> list[tuple[tuple[str, ...], list[Result]]]:
    """Group by verdict, context and operator; the largest group first."""
    groups: defaultdict[tuple[str, ...], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.verdict, result.case.context, result.case.operator].append(result)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def report(tally: Tally, runner: Runner, shrunk: int) -> str:
    """Return what failed, by kind, with a simple statement of each of the first."""
    lines = [", ".join(f"{name} {count}" for name, count in tally.counts.most_common())]
    lines += ["", "## another SQLSTATE (proxy, PostgreSQL)"]
    for states, count in tally.others.most_common():
        lines.append(f"- {count} {states}: {tally.examples[states].told()}")
    lines += ["", "## faults by verdict, context, operator"]
    for number, (group, results) in enumerate(ranked(tally.faults)):
        lefts = Counter(f"{r.case.left}|{'+'.join(r.case.right)}" for r in results).most_common(8)
        lines.append(f"\n### {len(results)} {' / '.join(group)}   " + " ".join(f"{pair}:{count}" for pair, count in lefts))
        seen = set()
        for result in results[:3]:
            told = (runner.simplest(result) if number < shrunk else result).told()
            if told not in seen:
                seen.add(told)
                lines.append(f"- {told}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what the command line says; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--shrunk", type=int, default=20, help="of so many kinds the simplest statement is looked for")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    tally = Tally()
    with (
        tempfile.TemporaryDirectory(prefix="matrix-") as directory,
        running_server() as server,
        matrix_site(server, Path(directory)) as site,
        Runner(site) as runner,
    ):
        begun = time.monotonic()
        oracle = oracle_of(site)
        numbers = range(arguments.start, arguments.start + arguments.count)
        for done, result in enumerate(runner.run(case(arguments.seed, n) for n in numbers), 1):
            tally.add(result)
            if done % 2000 == 0:
                leaks = oracle.leaks()
                assert not leaks, leaks
                site.tap.reset()
                rate = done / (time.monotonic() - begun)
                print(f"{done}: {rate:.0f}/s {dict(tally.counts)}", file=sys.stderr, flush=True)
        took = time.monotonic() - begun
        oracle.assert_no_leak()
        text = f"seed {arguments.seed}, {arguments.count} cases, {arguments.count / took:.0f}/s\n" + report(
            tally, runner, arguments.shrunk
        )
    if arguments.report:
        arguments.report.write_text(text)
    else:
        print(text)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
