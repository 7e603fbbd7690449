"""Columns that were replaced are where they were, or it is said that nobody knows."""

from __future__ import annotations

import pytest

from phiproxy.policy.column_order import collation_of, comment_on_guard, logical_order, order_comment

BEFORE = ["id", "ssn", "city", "note", "age"]
SSN, NOTE = order_comment("ssn", BEFORE), order_comment("note", BEFORE)


@pytest.mark.parametrize(
    ("physical", "logical"),
    [
        (["id", "city", "age", "ssn", "note"], BEFORE),
        (["id", "city", "age", "note", "ssn"], BEFORE),
        (["id", "city", "age", "note", "ssn", "more"], [*BEFORE, "more"]),
        (["city", "age", "note", "ssn"], ["ssn", "city", "note", "age"]),
        (["id", "age", "note", "ssn"], ["id", "ssn", "note", "age"]),
        (["id", "phi_tag_ssn_0", "city", "age", "ssn", "note", "phi_old_ssn"], [*BEFORE, "phi_tag_ssn_0", "phi_old_ssn"]),
        (["number", "city", "age", "ssn", "note"], ["number", "ssn", "city", "note", "age"]),
        (["id", "town", "age", "ssn", "note"], ["id", "ssn", "town", "note", "age"]),
        (["id", "city", "years", "ssn", "note"], ["id", "ssn", "city", "note", "years"]),
        (["number", "town", "age", "ssn", "note"], None),
        (["age", "city", "id", "ssn", "note"], None),
    ],
)
def test_order(physical: list[str], logical: list[str] | None) -> None:
    """Where both neighbours were renamed it is not known which of the two came first."""
    assert logical_order(physical, {"ssn": SSN, "note": NOTE}) == logical


def test_columns_beside_each_other() -> None:
    of = {name: order_comment(name, BEFORE) for name in ("ssn", "city", "note")}
    for moved in (["ssn", "city", "note"], ["note", "city", "ssn"]):
        assert logical_order(["id", "age", *moved], of) == BEFORE
        assert logical_order(["id", "age", "new", *moved], of) == [*BEFORE, "new"]


def test_the_last_column() -> None:
    last = order_comment("c", ["a", "b", "c"])
    assert logical_order(["a", "b", "c"], {"c": last}) == ["a", "b", "c"]
    assert logical_order(["a", "b", "more", "c"], {"c": last}) == ["a", "b", "c", "more"]
    assert logical_order(["a", "c"], {"c": last}) == ["a", "c"]


@pytest.mark.parametrize("comment", ["", "ours", 'phiproxy: column 9 of ["id"]', "phiproxy: column 1 of [id]"])
def test_other_comments_say_nothing(comment: str) -> None:
    assert logical_order(["id", "ssn"], {"ssn": comment}) == ["id", "ssn"]


def test_the_statement() -> None:
    assert comment_on_guard("public.t", "o'k", ["o'k"]) == (
        "COMMENT ON CONSTRAINT \"phi_guard_o'k\" ON public.t IS 'phiproxy: column 1 of [\"o''k\"]'"
    )


def test_a_collation_is_kept_and_nothing_else_is_run() -> None:
    for collation in ('pg_catalog."C"', 'public."de x, COLLATE ""[a]"', "public.german"):
        comment = order_comment("ssn", BEFORE, collation)
        assert collation_of(comment) == collation
        assert logical_order(["id", "city", "note", "age", "ssn"], {"ssn": comment}) == BEFORE
    odd = ["id", 'a"], COLLATE "b', "ssn"]
    assert collation_of(order_comment("ssn", odd)) == ""
    assert logical_order(["id", "ssn", odd[1]], {odd[1]: order_comment(odd[1], odd, 'public."x"')}) == odd
    for other in (None, "mine", SSN, f"{SSN}, COLLATE a.b; DROP TABLE t", f"{SSN}, COLLATE german"):
        assert collation_of(other) == ""
