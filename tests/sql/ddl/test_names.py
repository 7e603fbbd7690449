"""Names as PostgreSQL chooses them; the expected ones were asked of a server."""

from __future__ import annotations

from phiproxy.sql.ddl.names import chosen, numbered


def test_names() -> None:
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
