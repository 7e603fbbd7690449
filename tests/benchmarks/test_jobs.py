"""What make drill judges: of which job what is asked, and what is missed."""

from benchmarks.report import targets_table
from benchmarks.targets import Job, of_jobs


def test_what_is_asked_of_jobs_over_tables_in_use() -> None:
    rows = of_jobs([Job("encrypt", wait=1.9, p99=2.1, rate=0.5), Job("recrypt", p99=1.5), Job("decrypt", wait=2.1, p99=2.0)])
    assert [row.met for row in rows] == [True, False, False, True, True, True]
    table = targets_table(rows).splitlines()
    assert table[2] == "| longest wait at the switch of `encrypt` | 1.9 s | ≤ 2.0 s | yes |"
    assert table[3] == "| longest wait at the switch of `decrypt` | 2.1 s | ≤ 2.0 s | **no** |"
    assert table[4] == "| p99 of the application's statements beside `encrypt`, against before | 2.10 x | ≤ 2.00 x | **no** |"
    assert table[-1] == "| rows per second that `encrypt` fills, against UPDATE in SQL | 0.50 x | ≥ 0.50 x | yes |"
    assert of_jobs([Job("reindex")]) == []
