"""A batch takes what the time allows: it grows and shrinks by steps, and stays within bounds."""

from __future__ import annotations

from phiproxy.jobs.batch_size import FEWEST, FEWEST_OF_SHARE, FIRST, MOST, PREPARING, SHARE, BatchSize


def test_it_follows_what_batches_took() -> None:
    size = BatchSize(0.25)
    size.took(FIRST, 0.01, 0.01)
    assert size.rows == 2 * FIRST, "at most twice as many"
    size.took(size.rows, 0.1, 0.5)
    assert size.rows == FIRST
    size.took(size.rows, 0.1, 60)
    assert size.rows == FIRST // 2, "at most half as many"


def test_rows_may_be_worked_on_for_longer_than_they_may_be_locked() -> None:
    size = BatchSize(0.25)
    size.took(FIRST, 0.5 * PREPARING, 0.25)
    assert size.rows == FIRST // 2
    size.took(size.rows, 0.25 * PREPARING, 0.25)
    assert size.rows == FIRST // 2


def test_a_batch_that_was_not_full_says_nothing_of_larger_ones() -> None:
    size = BatchSize(0.25)
    size.took(3, 0.001)
    assert size.rows == FIRST
    size.took(3, 60)
    assert size.rows == FIRST // 2, "but one that took long, of smaller ones"


def test_it_stays_within_bounds() -> None:
    size = BatchSize(0.25)
    for _ in range(30):
        size.took(size.rows, 60)
    assert size.rows == FEWEST
    for _ in range(30):
        size.took(size.rows, 0)
    assert size.rows == MOST


def test_it_is_a_small_part_of_a_table() -> None:
    size = BatchSize()
    size.rows = 5000
    assert size.of(0) == 5000, "how large the table is is not known"
    assert size.of(100 * SHARE * 5000) == 5000
    assert size.of(1000 * SHARE) == 1000
    assert size.of(10) == FEWEST_OF_SHARE
