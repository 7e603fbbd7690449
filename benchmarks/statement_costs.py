"""What one statement costs the planner, by itself: no sockets, no server; CPU time per representative statement.

    python -m benchmarks.statement_costs [--rounds N]

*cold*: nothing like it was seen; parse, analysis, proof and plan. *shape seen*: the same text but for its literals was (a statement
without literals has no other text of its shape). *text seen*: this very text was. *bind*: its values are sealed and tagged, for one
execution. Statements with literals come as simple queries, those with parameters as Parse and Bind. Process time, the least of many
short rounds: what other processes do to a shared machine only ever adds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.copy_sealing import CopyIn
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ring

VIEW = View(PATH, "clinic", catalog_fresh=True)
VALUES = (b"078-05-1120", "Zoë Müller".encode(), b"MRN-00042", b"17")
COPY_ROWS = 1000

POINT = "SELECT id, ssn, full_name FROM patients WHERE ssn = {}"
INSERT = "INSERT INTO patients (ssn, full_name, mrn, id) VALUES ({}, {}, {}, {})"
UPDATE = "UPDATE patients SET full_name = {} WHERE ssn = {} AND id = {}"
JOIN = "SELECT p.full_name, v.diagnosis FROM patients p JOIN visits v ON v.mrn = p.mrn WHERE p.ssn = {} AND v.room = {}"
GROUP = "SELECT full_name, count(*) FROM patients WHERE city = {} GROUP BY full_name HAVING count(*) > 1 ORDER BY 2"
COPY = "COPY patients (id, ssn, full_name, mrn) FROM STDIN"
STATEMENTS = (
    ("point select by tag", POINT),
    ("insert of three protected columns", INSERT),
    ("update", UPDATE),
    ("join by tag", JOIN),
    ("group by tag", GROUP),
)


@dataclass(frozen=True)
class Cost:
    """Microseconds; ``shape`` is None where there is no other text of the shape."""

    statement: str
    how: str
    cold: float
    shape: float | None
    text: float
    bind: float


def planner() -> Planner:
    """Return a planner that has seen nothing, with keys for everything."""
    return Planner(PROTECTION, CATALOG, Ciphers(full_ring(10**9)))


def least(rounds: int, run: Callable[[], float]) -> float:
    """Return the least of what ``run`` measures, in microseconds."""
    return min(run() for _ in range(rounds)) * 1e6


def timed(count: int, work: Callable[[int], object]) -> float:
    """Return process seconds per call of ``work``."""
    begun = time.process_time()
    for n in range(count):
        work(n)
    return (time.process_time() - begun) / count


def timed_cold(work: Callable[[Planner], object]) -> float:
    """Return process seconds of ``work`` by a planner that has seen nothing."""
    fresh = planner()
    return timed(1, lambda _n: work(fresh))


def with_literals(form: str, n: int) -> bytes:
    """Return the statement with literals, another text for each number."""
    return form.format(*(f"'{n:04d}-{i}'" for i in range(form.count("{}")))).encode()


def with_parameters(form: str) -> bytes:
    """Return the statement with parameters."""
    return form.format(*(f"${i + 1}" for i in range(form.count("{}")))).encode()


def simple(name: str, form: str, rounds: int) -> Cost:
    """Measure a statement with literals, as a simple query."""
    seen = planner()
    seen.script(with_literals(form, 0), VIEW)
    text = with_literals(form, 1)
    plan = seen.script(text, VIEW)
    return Cost(
        name,
        "simple",
        cold=least(rounds, lambda: timed_cold(lambda fresh: fresh.script(text, VIEW))),
        shape=least(rounds, lambda: timed(20, lambda n: seen.script(with_literals(form, n), VIEW))),
        text=least(rounds, lambda: timed(20, lambda _n: seen.script(text, VIEW))),
        bind=least(rounds, lambda: timed(20, lambda _n: plan.render(seen.ciphers))),
    )


def extended(name: str, form: str, rounds: int) -> Cost:
    """Measure a statement with parameters, as Parse and Bind."""
    text, seen = with_parameters(form), planner()
    plan = seen.statement(text, (), VIEW)
    values = [VALUES[i] for i in range(plan.inputs)]
    return Cost(
        name,
        "extended",
        cold=least(rounds, lambda: timed_cold(lambda fresh: fresh.statement(text, (), VIEW))),
        shape=None,
        text=least(rounds, lambda: timed(20, lambda _n: seen.statement(text, (), VIEW))),
        bind=least(rounds, lambda: timed(20, lambda _n: plan.parameters(seen.ciphers, values))),
    )


def copy(rounds: int) -> Cost:
    """Measure COPY FROM STDIN; bind is one row of text format with three protected columns."""
    text, seen = COPY.encode(), planner()
    plan = seen.script(text, VIEW)
    assert plan.parts is not None
    answer = plan.parts[0].copy
    assert answer is not None
    data = b"".join(b"%d\t%09d\tZo\xc3\xab M\xc3\xbcller\tMRN-%05d\n" % (n, n, n) for n in range(COPY_ROWS))

    def rows(_n: int) -> None:
        copying = CopyIn(answer, seen.ciphers, 1 << 30)
        copying.feed(data)
        copying.finish()

    return Cost(
        "COPY, a row of three protected columns",
        "simple",
        cold=least(rounds, lambda: timed_cold(lambda fresh: fresh.script(text, VIEW))),
        shape=None,
        text=least(rounds, lambda: timed(20, lambda _n: seen.script(text, VIEW))),
        bind=least(max(rounds // 10, 3), lambda: timed(1, rows)) / COPY_ROWS,
    )


def measure(rounds: int) -> list[Cost]:
    """Measure everything."""
    found = [cost(name, form, rounds) for name, form in STATEMENTS for cost in (simple, extended)]
    return [*found, copy(rounds)]


def table(costs: list[Cost]) -> str:
    """Return the costs as a Markdown table."""
    lines = ["| statement | protocol | cold | shape seen | text seen | bind |", "|---|---|---:|---:|---:|---:|"]
    for c in costs:
        numbers = (f"{c.cold:.0f}", "" if c.shape is None else f"{c.shape:.0f}", f"{c.text:.1f}", f"{c.bind:.1f}")
        lines.append(f"| {c.statement} | {c.how} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=100)
    sys.stdout.write(table(measure(arguments.parse_args().rounds)))


if __name__ == "__main__":
    main()
