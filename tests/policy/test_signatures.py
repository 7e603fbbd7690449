"""What PostgreSQL takes for what, by the signatures of a server of version 15."""

from __future__ import annotations

import pytest

from phiproxy.policy.signatures import BOOL, RECORD, TEXT, UNKNOWN, Function, Rows, Signatures, TypeRow
from tests.clinic_model import SIGNATURES

MOOD, GRADE = 20001, 20002  # an enum, and a domain over it
OWN = Rows(
    {MOOD: TypeRow(MOOD, "mood", "e", "E", False, 0, 0, 0), GRADE: TypeRow(GRADE, "grade", "d", "E", False, 0, MOOD, 0)},
    {},
    {
        "feel": (Function((MOOD,), 0, 0, "f", TEXT),),
        "many": (Function((23, 1009), 0, 25, "f", 23), Function((16, 16), 1, 0, "p", 16)),
    },
    {},
    frozenset({"mood", "grade"}),
    frozenset({"own"}),
)
BOTH = Signatures((*SIGNATURES.parts, OWN))


@pytest.mark.parametrize(
    ("source", "target", "contexts"),
    [
        (23, 20, "iae"),
        (20, 23, "ae"),
        (23, TEXT, "ae"),
        (TEXT, 23, "e"),
        (23, BOOL, "e"),
        (1082, 23, ""),
        (1082, 1114, "iae"),
        (1043, TEXT, "iae"),
        (UNKNOWN, 23, "iae"),
        (1007, 1016, "iae"),
        (1016, 1007, "ae"),
        (1009, 1007, "e"),
        (1007, TEXT, "ae"),
        (23, 2277, ""),
        (1007, 2277, "iae"),
        (1007, 2776, ""),
        (23, 2283, "iae"),
        (MOOD, 3500, "iae"),
        (23, 3500, ""),
        (GRADE, MOOD, "iae"),
        (MOOD, TEXT, "ae"),
        (MOOD, 23, ""),
        (RECORD, TEXT, "ae"),
        (RECORD, 2283, "iae"),
        (23, RECORD, ""),
        (None, 23, "iae"),
        (99999, 23, "iae"),
    ],
)
def test_casts(source: int | None, target: int, contexts: str) -> None:
    assert "".join(c for c in "iae" if BOTH.takes(target, source, c)) == contexts


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("many", [23], 1),
        ("many", [23, 25, 25], 1),
        ("many", [16], 1),
        ("many", [1082], 0),
        ("feel", [GRADE], 1),
        ("feel", [25], 0),
        ("lower", [], 0),
    ],
)
def test_calls(name: str, arguments: list[int], count: int) -> None:
    assert len(BOTH.calls(name, arguments)) == count


def test_operations() -> None:
    assert BOTH.operations("=", 25, 23) == []
    assert BOTH.result(BOTH.operations("=", 25, UNKNOWN), (25, UNKNOWN)) == BOOL
    assert BOTH.operations("-", 0, 25) == []
    assert BOTH.operations("-", 0, 23)


@pytest.mark.parametrize(
    ("types", "found"),
    [
        ([23, 20], (20, None)),
        ([23, 1700, 701], (701, None)),
        ([UNKNOWN, 1082], (1082, None)),
        ([UNKNOWN], (TEXT, None)),
        ([25, 23], (25, 1)),
        ([UNKNOWN, 23, 25], (23, 2)),
        ([None, 23], (None, None)),
        ([1043, 25], (1043, None)),
        ([GRADE, MOOD], (MOOD, None)),
        ([1082, 1114], (1114, None)),
    ],
)
def test_what_types_have_in_common(types: list[int | None], found: tuple[int | None, int | None]) -> None:
    assert BOTH.common(types) == found


def test_names() -> None:
    assert [BOTH.shown(t) for t in (23, 1009, 1114, GRADE, UNKNOWN, RECORD, None)] == [
        "integer",
        "text[]",
        "timestamp without time zone",
        "grade",
        "unknown",
        "record",
        "unknown",
    ]
    assert (BOTH.named("mood"), BOTH.named("int4"), BOTH.named("nosuch")) == (MOOD, 23, None)
    assert (BOTH.is_type("grade"), BOTH.is_type("nosuch")) == (True, False)
    assert (BOTH.is_collation("own"), BOTH.is_collation("C"), BOTH.is_collation("nosuch")) == (True, True, False)
    assert (BOTH.element_of(1007), BOTH.element_of(23), BOTH.array_of(23)) == (23, None, 1007)
