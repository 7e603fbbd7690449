"""Measure everything side by side in one run, and write it under benchmarks/results.

The targets go into docs/benchmarks.md too, and a few of them into the README.

python -m benchmarks [--quick] [--results DIRECTORY]      (make bench, make bench QUICK=1)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import catalogue, fills, memory, plots, report, split, stages, stalls, targets
from benchmarks.contenders import DIRECT, SEALED, contenders
from benchmarks.measures import machine
from benchmarks.rounds import FULL, QUICK, Extent, measure
from benchmarks.site import PLAIN, PROTECTED, SETTINGS, Site, say
from benchmarks.workloads import Bulk, Queries, bulks, queries
from phiproxy.demo.postgres import EmbeddedPostgres


def run(extent: Extent) -> report.Report:
    """Measure."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(settings=SETTINGS) as server:
        site = Site(server, Path(directory), rows=extent.rows, scale=extent.scale)
        site.prepare()
        work: list[Queries | Bulk] = [*queries(), *bulks()]
        with contenders(site) as ways:
            say("everything runs")
            values = memory.per_value(site)
            measured = measure(site, ways, work, extent, say)
            processes = memory.per_process(ways)
        connections = memory.per_connection(site, extent.connections)
        with site.proxy() as (port, _):
            ways_beside = {SEALED: (port, PROTECTED)}
            if not extent.smoke:
                ways_beside = {DIRECT: (server.port, PLAIN), **ways_beside}
            beside = stalls.measure(site, ways_beside, 0.02 if extent.smoke else 1.0, say)
        first = memory.first_statements(site, 1 if extent.smoke else 3)
        say("many tables")
        many = [catalogue.beside(site, tables, 2 if extent.smoke else 40, extent.idle) for tables in extent.beside]
    say("split statements")
    splits, stall = split.measured(*extent.splits, extent.split_beside)
    beside.append(stall)
    say("a table that is encrypted while in use")
    jobs = [fills.measured(*extent.fills)]
    say("stages")
    parts = stages.parts(extent.stage_rounds * 3)
    conversations, statements = stages.conversations(extent.stage_rounds), stages.statements(extent.stage_rounds)
    how = f"{extent.rounds} rounds of pgbench {' '.join(extent.length.options)}"
    extent_said = f"{extent.rows} rows, {how}; {time.monotonic() - begun:.0f} seconds in all."
    return report.Report(
        machine(), extent_said, measured, targets.rows(measured.judged, connections, many, beside, splits, jobs), work,
        connections, processes, values, first, many, parts, conversations, statements, beside,
    )  # fmt: skip


def main() -> None:
    """Measure, write, and print the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: everything once, too short for the numbers to mean much"
    )
    parser.add_argument("--results", type=Path, default=report.RESULTS, metavar="DIRECTORY")
    arguments = parser.parse_args()
    made = run(QUICK if arguments.quick else FULL)
    report.write(made, arguments.results)
    plots.draw(made, arguments.results)
    if arguments.results == report.RESULTS and not arguments.quick:
        report.into_pages(made)
    sys.stdout.write(report.targets_table(made.targets))


if __name__ == "__main__":
    main()
