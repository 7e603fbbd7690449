"""Unique indexes over tags, the slots that they need, and names as PostgreSQL chooses them (asked of a server)."""

from __future__ import annotations

import pytest

from phiproxy.sql.statements.ddl.unique_keys import chosen, numbered
from tests.sql.statements.ddl.build import physical, refused


def test_included_columns_and_nulls_stay() -> None:
    text = "ALTER TABLE patients ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (ssn, city) INCLUDE (id)"
    assert physical(text) == (
        "CREATE UNIQUE INDEX u ON public.patients ((pg_catalog.substring(ssn, 13, 16)), city) INCLUDE (id) NULLS NOT DISTINCT"
    )


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE patients ADD UNIQUE (notes)",
        "ALTER TABLE patients ADD UNIQUE (city) INCLUDE (ssn), ADD UNIQUE (ssn) INCLUDE (mrn)",
        "ALTER TABLE patients ADD UNIQUE (ssn) WITH (fillfactor = 10)",
    ],
)
def test_a_key_that_no_index_on_tags_can_be_is_refused(text: str) -> None:
    assert refused(text).sqlstate == "0A000"


def test_a_name_is_made_of_table_columns_and_label() -> None:
    assert chosen("t", ["a"], "key", ()) == "t_a_key"
    assert chosen("t", ["a", "b"], "idx", ()) == "t_a_b_idx"
    assert chosen("t", [], "pkey", ()) == "t_pkey"


def test_keys_of_one_name_are_numbered() -> None:
    assert numbered(["lower", "id", "lower", "lower", "lower1"]) == ["lower", "id", "lower1", "lower2", "lower11"]
    assert numbered(["x" * 63, "x" * 63]) == ["x" * 63, "x" * 62 + "1"]


def test_a_taken_name_gets_a_number() -> None:
    assert chosen("t", ["a"], "key", {"t_a_key", "t_a_key1"}) == "t_a_key2"


def test_long_names_give_way_the_longer_first() -> None:
    assert chosen("t" * 40, ["c" * 40], "key", ()) == f"{'t' * 29}_{'c' * 29}_key"
    assert chosen("t" * 60, ["a"], "key", ()) == f"{'t' * 57}_a_key"
    assert len(chosen("ü" * 31, ["ü" * 31], "key", ()).encode()) <= 63
