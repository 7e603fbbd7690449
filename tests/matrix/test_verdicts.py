"""What became of a case, from the two replies."""

from __future__ import annotations

import pytest

from phiproxy.wire.messages import Field
from tests.matrix.dialogue import Reply
from tests.matrix.verdicts import Verdict, documented, folded, verdict
from tests.session.frames import data_row


def field(type_oid: int) -> Field:
    return Field(b"x", 1, 1, type_oid, 4, -1, 0)


def rows(*values: bytes | None, type_oid: int = 23) -> Reply:
    return Reply((field(type_oid),), (), tuple(sorted(data_row(v)[5:] for v in values)), (b"SELECT\0",))


def error(sqlstate: str, message: str = "phiproxy: no") -> Reply:
    return Reply((), (), (), (), sqlstate, message)


@pytest.mark.parametrize(
    ("proxied", "plain", "expected"),
    [
        (rows(b"1", b"2"), rows(b"2", b"1"), "equal"),
        (rows(b"1"), rows(b"1", b"1"), "wrong value"),
        (rows(b"1"), rows(None), "wrong value"),
        (rows(b"1"), rows(b"1", type_oid=20), "wrong type"),
        (error("0A000"), rows(b"1"), "refused"),
        (error("0A000"), error("42883"), "refused"),
        (error("0A000", "not of the proxy"), rows(b"1"), "false error"),
        (error("42883"), rows(b"1"), "false error"),
        (error("42883"), error("42883", "of the server"), "equal error"),
        (error("42883"), error("42804", "of the server"), "another SQLSTATE"),
        (rows(b"1"), error("42883", "of the server"), "accepted"),
    ],
)
def test_each_verdict(proxied: Reply, plain: Reply, expected: Verdict) -> None:
    assert verdict([proxied], [plain]) == expected


def test_the_tables_after_it_count() -> None:
    assert verdict([rows()], [rows()], [rows(b"1")], [rows(b"2")]) == "wrong value"
    # … but not after an error, when nothing can be asked
    assert verdict([error("42883")], [error("42883")], [error("25P02")], [error("25P02")]) == "equal error"


def test_one_nan_is_as_good_as_another() -> None:
    binary = Field(b"x", 0, 0, 701, 8, -1, 1)
    nans = [Reply((binary,), (), (data_row(value)[5:],), (b"SELECT\0",)) for value in (b"\xff" * 8, b"\x7f\xf8" + bytes(6))]
    assert verdict(nans[:1], nans[1:]) == "equal"
    assert verdict(nans[:1], [Reply((binary,), (), (data_row(bytes(8))[5:],), (b"SELECT\0",))]) == "wrong value"


def test_parameter_types_are_types() -> None:
    assert verdict([Reply((), (23,), (), ())], [Reply((), (20,), (), ())]) == "wrong type"


@pytest.mark.parametrize(("one", "other"), [(b"1.00", b"1"), (b"-0", b"0"), (b"AB", b"ab"), (b"30 days", b"1 mon")])
def test_which_of_equal_values_is_shown_is_nobody_s(one: bytes, other: bytes) -> None:
    assert verdict([rows(one)], [rows(other)]) == "wrong value"
    assert verdict([rows(one)], [rows(other)], merges=True) == "equal"


def test_different_values_are_not_folded_into_one() -> None:
    texts = [b"1.0", b"10", b"100", b"0.1", b"-1", b"ab ", b"ab", b""]
    assert len({folded(data_row(text)[5:]) for text in texts}) == len(texts)
    assert folded(data_row(None)[5:]) == (None,)


def test_errors_of_types_and_of_values_may_be_found_in_either_order() -> None:
    assert documented("42883", "22P02")
    assert documented("22007", "42804")
    assert documented("42883", "XX000")
    assert not documented("XX000", "22P02")
    assert not documented("42883", "42501")
    assert not documented("58000", None)
