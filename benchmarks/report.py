"""What was measured, as Markdown and JSON under benchmarks/results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import catalogue
from benchmarks.catalogue import Beside
from benchmarks.contenders import BOUNCER, FORWARDER
from benchmarks.load import Taken
from benchmarks.measures import middle
from benchmarks.rounds import Measured, Results
from benchmarks.stalls import Stall
from benchmarks.stalls import table as stall_table
from benchmarks.statement_costs import Cost, table
from benchmarks.targets import Row
from benchmarks.workloads import Bulk, Queries

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
PINNED = (
    "What targets are about is measured twice: with every process on any core, and *pinned*: what stands between client and \n"
    "server has a core to itself, and client and server share another. The targets are judged on the latter."
)
NOT_PINNED = "There is one core only, or no way to choose one: nothing is pinned, and the targets are judged on shared cores."
# The targets that the README shows; docs/benchmarks.md shows all.
FEW = (
    "proxy CPU per query, unprotected point select, prepared, against PgBouncer",
    "proxy CPU per query, protected point select by tag, against PgBouncer",
    "proxy CPU per query, insert of 3 protected columns, against PgBouncer",
    "time of SELECT * with 3 protected columns, against the crypto-only loop",
    "memory per idle connection",
)


@dataclass(frozen=True)
class Report:
    """Everything of one run."""

    machine: dict[str, str]
    extent: str
    measured: Measured
    targets: list[Row]
    work: list[Queries | Bulk]
    memory: dict[str, float]
    processes: dict[str, float]
    values: dict[str, float]
    first: dict[str, float]
    beside: list[Beside]
    parts: dict[str, float]
    conversations: dict[str, float]
    statements: list[Cost]
    stalls: list[Stall]


def latest(targets: list[Row]) -> list[dict[str, object]]:
    """Return the objects of latest.json."""
    found: list[dict[str, object]] = []
    for r in targets:
        ratio = None if r.ratio is None else round(r.ratio, 3)
        found.append({"workload": r.workload, "ratio": ratio, "target": r.target, "better": r.better, "met": r.met, "unit": r.unit})
    return found


def write(report: Report, directory: Path = RESULTS) -> None:
    """Write latest.json, measured.json and measured.md."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(directory / "latest.json", latest(report.targets))
    _write_json(directory / "measured.json", as_object(report))
    (directory / "measured.md").write_text(markdown(report), encoding="utf-8")


def into_pages(report: Report, root: Path = ROOT) -> None:
    """Put all targets between the two marks of docs/benchmarks.md, and a few between those of the README."""
    _between_marks(root / "docs" / "benchmarks.md", report, report.targets)
    _between_marks(root / "README.md", report, [row for row in report.targets if row.workload in FEW])


def _between_marks(page: Path, report: Report, targets: list[Row]) -> None:
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page} has no place for what is measured")
    where = f"{report.machine['cpu']}, {report.machine['system']}, {report.machine['python']}; {report.extent}"
    page.write_text(f"{before}{BEGIN}\n{where}\n\n{targets_table(targets)}{END}{after}", encoding="utf-8")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def as_object(report: Report) -> dict[str, object]:
    """Return everything as JSON has it, every round of every run."""
    shared, pinned = report.measured.shared, report.measured.pinned
    return {
        "machine": report.machine,
        "extent": report.extent,
        "units": "cpu: µs per query or row between client and server; rate: per second; p50, p95, p99: µs",
        "runs": _runs(shared),
        "runs_pinned": _runs(pinned) if pinned else [],
        "crypto_only_loop_seconds": {"opening": shared.opening, "sealing": shared.sealing},
        "kib_per_idle_connection": report.memory,
        "mib_per_process": report.processes,
        "sync_seconds": shared.syncs,
        "stored": report.values,
        "milliseconds": report.first,
        "beside_many_tables": [asdict(b) for b in report.beside],
        "beside_a_heavy_statement": [asdict(stall) for stall in report.stalls],
        "stages_us": {"parts": report.parts, "session": report.conversations, "statements": [asdict(c) for c in report.statements]},
    }


def _runs(results: Results) -> list[dict[str, object]]:
    return [
        {"workload": workload, "way": way, "rounds": [_rounded(t) for t in taken]}
        for (workload, way), taken in results.runs.items()
    ]


def _rounded(taken: Taken) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(taken).items()}


def targets_table(targets: list[Row]) -> str:
    """Return the targets as a Markdown table."""
    lines = ["| work | measured | target | met |", "|---|---:|---:|---|"]
    for r in targets:
        measured = "PgBouncer is not installed" if r.ratio is None else _said(r.ratio, r)
        sign = "≥" if r.better == "higher" else "≤"
        met = {None: "", True: "yes", False: "**no**"}[r.met]
        lines.append(f"| {r.workload} | {measured} | {sign} {_said(r.target, r)} | {met} |")
    return "\n".join(lines) + "\n"


def _said(value: float, row: Row) -> str:
    return f"{value:.2f} x" if row.unit == "times" else f"{value:.1f} {row.unit}"


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    where = "\n".join(f"- {name}: {value}" for name, value in report.machine.items())
    parts = [
        f"# Measured\n\n{report.extent}\n\n{where}\n",
        "All ways take turns within each round of one run. CPU is that of the processes between client and server (user and\n"
        "system, from the operating system): µs per query are CPU seconds per million queries. Medians of the rounds.\n",
        f"{PINNED if report.measured.pinned else NOT_PINNED}\n",
        "## Targets\n",
        targets_table(report.targets),
        _pairs(
            "milliseconds, the median", {"a sync of the disk that holds the audit log": 1e3 * middle(report.measured.judged.syncs)}
        ),
    ]
    for work in report.work:
        parts += [f"## {work.title[0].upper()}{work.title[1:]}\n", _work_table(report.measured.shared, work)]
        if report.measured.pinned and work.often:
            parts += ["Pinned:\n", _work_table(report.measured.pinned, work)]
    parts += [
        "## Beside a heavy statement\n\nAnother session asks `SELECT 1` all the while, through the same proxy of one worker.\n",
        stall_table(report.stalls),
        "## Memory\n",
        _pairs("KiB per idle connection", report.memory),
        _pairs("MiB resident per process", report.processes),
        "## Stored\n",
        _pairs("`people`: 100 000 rows of 10 columns, 3 protected in one database", report.values),
        "## Cold and warm\n",
        _pairs("milliseconds", report.first),
        "## Many tables\n",
        catalogue.table(report.beside),
        "## Stages\n\nMicroseconds of process time, without sockets, the least of many rounds.\n",
        _pairs("part", report.parts),
        _pairs("the whole session core, per query", report.conversations),
        table(report.statements),
    ]
    return "\n".join(parts)


def _work_table(results: Results, work: Queries | Bulk) -> str:
    small = isinstance(work, Queries)
    head = "| way | CPU µs per query | against PgBouncer | queries per second | against the forwarder | p50 µs | p95 µs | p99 µs |"
    lines = (
        [head, "|---|" + "---:|" * 7] if small else ["| way | CPU µs per row | rows per second | seconds |", "|---|---:|---:|---:|"]
    )
    for way in work.ways:
        taken = results.middle(work.title, way)
        if taken is None:
            continue
        if small:
            cpu = results.ratio(work.title, way, BOUNCER, lambda t: t.cpu) if taken.cpu else None
            rate = results.ratio(work.title, way, FORWARDER, lambda t: t.rate)
            ratios = [f"{r:.2f}" if r is not None else "" for r in (cpu, rate)]
            lines.append(
                f"| {way} | {taken.cpu:.1f} | {ratios[0]} | {taken.rate:.0f} | {ratios[1]} "
                f"| {taken.p50:.0f} | {taken.p95:.0f} | {taken.p99:.0f} |"
            )
        else:
            lines.append(f"| {way} | {taken.cpu:.2f} | {taken.rate:.0f} | {taken.seconds:.2f} |")
    return "\n".join(lines) + "\n"


def _pairs(title: str, values: dict[str, float]) -> str:
    return "\n".join([f"| {title} | |", "|---|---:|", *(f"| {name} | {value:.2f} |" for name, value in values.items())]) + "\n"
