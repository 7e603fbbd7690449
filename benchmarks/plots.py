"""The same as pictures (PNG): CPU per query and throughput, way by way, for each workload of pgbench."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.load import Taken
from benchmarks.report import RESULTS, Report
from benchmarks.workloads import Queries


def draw(report: Report, directory: Path = RESULTS) -> None:
    """Write the pictures."""
    mpl.use("Agg")
    work = [w for w in report.work if isinstance(w, Queries)]
    _bars(report, work, "CPU between client and server, µs per query (less is better)", lambda t: t.cpu, directory / "cpu.png")
    _bars(report, work, "queries per second (more is better)", lambda t: t.rate, directory / "throughput.png")
    _bars(report, work, "latency, 99th percentile, µs (less is better)", lambda t: t.p99, directory / "p99.png")


def _bars(report: Report, work: list[Queries], title: str, of: Callable[[Taken], float], path: Path) -> None:
    ways = list(dict.fromkeys(way for w in work for way in w.ways))
    height = 0.8 / len(ways)
    figure, axes = plt.subplots(figsize=(11, 1.0 * len(work) + 1.5))
    for n, way in enumerate(ways):
        taken = [(i, report.measured.shared.middle(w.title, way)) for i, w in enumerate(work)]
        places = [i + n * height for i, t in taken if t is not None]
        values = [of(t) for _, t in taken if t is not None]
        axes.barh(places, values, height=height * 0.9, label=way)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(work))], [w.title for w in work])
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend(fontsize="small")
    figure.text(0.01, 0.005, f"{report.machine['cpu']}, {report.machine['system']}, {report.machine['python']}", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
