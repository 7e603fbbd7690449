"""From runs to targets, tables, JSON and pictures, with runs whose ratios are known."""

import json
from pathlib import Path

import pytest

from benchmarks import catalogue, compare, plots, report, targets
from benchmarks.catalogue import Beside
from benchmarks.contenders import AUDITED, AUDITED_IN_MEMORY, BOUNCER, DIRECT, FORWARDER, OTHER, SEALED
from benchmarks.load import Taken, between, logged, middle_of
from benchmarks.rounds import Measured, Results
from benchmarks.split import SplitCosts
from benchmarks.stalls import Stall
from benchmarks.workloads import Bulk, Queries, bulks, queries

BESIDE = [Beside(0, 2.0, 4.0, 0.2, 0.3, 0.1, 0.4), Beside(5000, 2.0, 6.5, 1.5, 0.4, 0.1, 0.6)]
COST = {DIRECT: 0.0, FORWARDER: 20.0, BOUNCER: 20.0, OTHER: 25.0, SEALED: 50.0, AUDITED: 75.0, AUDITED_IN_MEMORY: 55.0}
RATE = {
    DIRECT: 20_000.0,
    FORWARDER: 10_000.0,
    BOUNCER: 11_000.0,
    OTHER: 9_500.0,
    SEALED: 5_000.0,
    AUDITED: 1_000.0,
    AUDITED_IN_MEMORY: 4_000.0,
}


def results(*, ways: tuple[str, ...] = tuple(COST)) -> Results:
    found = Results(opening=[1.0, 2.0, 1.5], sealing=[1.0, 2.0, 1.5], syncs=[0.0024, 0.0048, 0.0036])
    everything: list[Queries | Bulk] = [*queries(), *bulks()]
    for work in everything:
        for way in set(work.ways) & set(ways):
            for drift in (1.0, 2.0, 1.5):  # a machine that slows all alike
                p50 = drift * {DIRECT: 50.0, FORWARDER: 80.0, SEALED: 95.0}.get(way, 90.0)
                seconds = drift * {FORWARDER: 1.0, SEALED: 2.2}.get(way, 1.1)
                found.add(work.title, way, Taken(COST[way] * drift, RATE[way] / drift, p50, 2 * p50, 3 * p50, seconds))
    return found


def made(found: Results, pinned: Results | None = None) -> report.Report:
    memory = {OTHER: 41.0}
    rows = targets.rows(found, memory, BESIDE)
    return report.Report(
        {"cpu": "a", "system": "b", "python": "c"},
        "short",
        Measured(found, pinned),
        rows,
        [*queries(), *bulks()],
        memory,
        {},
        {},
        {},
        BESIDE,
        {},
        {},
        [],
        [Stall("INSERT", SEALED, 1.0, 0.2, 9.0, 11.0)],
    )


def test_every_target_is_a_ratio_within_the_rounds() -> None:
    found = targets.rows(results(), {OTHER: 41.0}, BESIDE)[:16]
    assert [r.ratio for r in found] == pytest.approx(
        [1.25, 1.25, 1.25, 1.25, 2.5, 2.5, 2.5, 2.2, 1.1, 2.2, 1.5, 1.25, 5.0, 5.0, 2.0, 41.0]
    )  # fmt: skip
    assert [r.met for r in found] == [True] * 4 + [True, True, True, False, True, True, True, False, False, False, False, False]


def test_a_neighbour_of_a_heavy_statement_has_two_targets() -> None:
    stalls = [Stall("INSERT", way, 1.0, 0.2, 9.0, longest) for way, longest in ((DIRECT, 60.0), (SEALED, 51.0))]
    longest, p99 = targets.rows(results(), {}, BESIDE, stalls)[20:]
    assert (longest.ratio, longest.target, longest.unit, longest.met) == (51.0, 50.0, "ms", False)
    assert (p99.ratio, p99.target, p99.unit, p99.met) == (9.0, 10.0, "ms", True)
    assert "INSERT" in longest.workload


def test_splits_have_targets() -> None:
    found = targets.rows(results(), {}, BESIDE, (), SplitCosts(500, {"ORDER BY": 1.4}, 3.5))[16:18]
    assert [(r.ratio, r.target, r.unit, r.met) for r in found] == [(1.4, 1.5, "times", True), (3.5, 3.0, "ms", False)]
    assert "`ORDER BY` over 500 split rows" in found[0].workload


def test_without_pgbouncer_its_targets_are_open() -> None:
    rows = targets.rows(results(ways=tuple(w for w in COST if w != BOUNCER)), {OTHER: 41.0}, BESIDE)
    assert [(r.ratio, r.met) for r in rows[:2]] == [(None, None), (None, None)]
    assert "PgBouncer is not installed" in report.targets_table(rows)


def test_what_is_written(tmp_path: Path) -> None:
    one = made(results(), results(ways=(BOUNCER, SEALED)))
    report.write(one, tmp_path)
    plots.draw(one, tmp_path)
    latest = json.loads((tmp_path / "latest.json").read_text())
    assert len(latest) == 20
    assert latest[4] == {
        "workload": "proxy CPU per query, protected point select by tag, against PgBouncer",
        "ratio": 2.5,
        "target": 2.5,
        "better": "lower",
        "met": True,
        "unit": "times",
    }
    markdown = (tmp_path / "measured.md").read_text()
    assert "| phiproxy, encrypted | 75.0 | 2.50 | 3333 | 0.50 | 142 | 285 | 428 |" in markdown
    assert "| phiproxy, encrypted | 75.0 | 2.50 | 3333 |  | 142 | 285 | 428 |" in markdown.partition("Pinned:")[2]
    assert "| proxy CPU per query, unprotected point select, simple, against PgBouncer | 1.25 x | ≤ 1.70 x | yes |" in markdown
    assert {p.name for p in tmp_path.glob("*.png")} == {"cpu.png", "throughput.png", "p99.png"}
    written = json.loads((tmp_path / "measured.json").read_text())
    assert all(len(run["rounds"]) == 3 for runs in (written["runs"], written["runs_pinned"]) for run in runs)


def test_the_targets_stand_in_the_pages_between_their_marks(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    pages = {name: tmp_path / name for name in ("docs/benchmarks.md", "README.md")}
    for name, page in pages.items():
        assert report.BEGIN in (report.ROOT / name).read_text(encoding="utf-8").partition(report.END)[0]
        page.write_text(f"# a\n\n{report.BEGIN}\nold\n{report.END}\n\n## b\n")
    report.into_pages(made(results()), tmp_path)
    rows = {}
    for name, page in pages.items():
        text = page.read_text()
        assert text.startswith(f"# a\n\n{report.BEGIN}\na, b, c; short\n\n| work |")
        assert text.endswith(f" |\n{report.END}\n\n## b\n")
        rows[name] = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if " x | " in line or " KiB | " in line]
    assert rows["README.md"] == list(report.FEW)
    assert set(rows["docs/benchmarks.md"]) > set(report.FEW)
    pages["README.md"].write_text("# nothing")
    with pytest.raises(SystemExit, match="no place"):
        report.into_pages(made(results()), tmp_path)


def test_the_logs_of_all_threads_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "log.7").write_text("0 1 900 0 99 999999\n1 1 200 0 101 000000\n")
    (tmp_path / "log.7.1").write_text("0 2 400 0 100 500000\n")
    assert logged(tmp_path) == [(99.999999, 900.0, 0), (100.5, 400.0, 0), (101.0, 200.0, 1)]


def test_only_what_ended_between_two_looks_is_counted() -> None:
    """From where each client has begun: the second one does only now."""
    transactions = [(99.0, 900.0, 0), (100.0, 900.0, 1), (100.3, 200.0, 0), (100.4, 400.0, 1), (100.6, 500.0, 0), (101.0, 800.0, 1)]
    looks = [(98.0, 0.0), (99.5, 0.5), (100.05, 1.0), (100.2, 2.0), (100.5, 2.0002), (101.5, 9.0)]
    found = between(transactions, looks)
    assert (found.p50, found.p95) == (400.0, 400.0)
    assert (found.cpu, found.rate, found.seconds) == pytest.approx((100.0, 2 / 0.3, 0.3))


def test_a_short_run_counts_as_a_whole() -> None:
    found = between([(100.0, 200.0, 0), (100.01, 200.0, 0)], [(99.0, 1.0), (101.0, 1.5)])
    assert (found.cpu, found.rate) == (250_000.0, 1.0)


def test_medians_of_runs() -> None:
    assert middle_of([Taken(1, 9), Taken(3, 5), Taken(2, 7)]) == Taken(2, 7)


def test_a_comparison_shows_the_ratio_of_the_least() -> None:
    pairs = [
        (Taken(10.0, 100.0), Taken(12.0, 90.0)),
        (Taken(20.0, 50.0), Taken(11.0, 100.0)),
        (Taken(10.5, 100.0), Taken(11.5, 95.0)),
    ]
    assert compare.line("work", pairs) == "| work | 10.0 | 11.0 | 1.100 | 1.10 (0.55 to 1.20) | 0.95 (0.90 to 2.00) |"


def test_many_tables() -> None:
    found = {r.workload: (round(r.ratio or 0, 3), r.met) for r in targets.rows(results(), {OTHER: 41.0}, BESIDE)[16:]}
    assert list(found.values()) == [(4.5, True), (1.5, True), (0.4, True), (0.6, False)]
    assert all("5000 tables" in workload for workload in found)
    assert "| 5000 | 2.0 ms | 6.5 ms | 1.5 s | 0.40 % | 0.10 % | 0.60 % |" in catalogue.table(BESIDE)
