"""Counting by column."""

from phiproxy.plan.row_counts import RowCounts


def test_a_row_counts_for_each_of_its_columns() -> None:
    counts = RowCounts()
    both, again, one = counts.opened(["t.b", "t.a"]), counts.opened(["t.a", "t.b", "t.a"]), counts.opened(["t.a"])
    both[0] += 2
    again[0] += 1
    one[0] += 4
    assert counts.rows_opened() == {"t.a": 7, "t.b": 3}


def test_values_count_by_themselves() -> None:
    counts = RowCounts()
    counts.stored("t.a")[0] += 2
    counts.stored("t.a")[0] += 1
    counts.stored("t.b")
    assert counts.values_stored() == {"t.a": 3, "t.b": 0}
    assert counts.rows_opened() == {}
