"""Texts that are put together: parameters numbered anew, and where pieces are from."""

from __future__ import annotations

from phiproxy.sql.split.writes.composed import Composed, client_spans
from phiproxy.sql.text.parse import tokens
from phiproxy.sql.text.token_spans import Spans

TEXT = b"UPDATE t SET a = $3 || $1, b = $3"


def test_parameters_are_numbered_as_they_come() -> None:
    composed = Composed(TEXT, Spans(tokens(TEXT)))
    composed.add("SELECT ", (17, 25), ", ", (31, 33), f", {composed.parameter(-1)}")
    assert composed.text == b"SELECT $2 || $3, $2, $1"
    assert composed.parameters == [-1, 3, 1]


def test_where_pieces_are_from() -> None:
    composed = Composed(TEXT, Spans(tokens(TEXT))).add("SELECT ", (0, 9), (27, 31))
    assert composed.text == b"SELECT UPDATE t b = "
    assert composed.origins == [(7, 16, 0), (16, 20, 27)]
    assert client_spans([(100, 107, 10)], composed.origins) == ((100, 106, 3), (106, 107, 27))
    assert client_spans([(0, 5, 0)], composed.origins) == ()
