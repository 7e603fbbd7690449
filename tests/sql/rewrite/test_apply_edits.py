"""Splicing and its proof: positions map there and back, and a splice that went wrong is caught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import StatementRefused
from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.rewrite.apply_edits import Rendered, position_map, verify
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import parse
from phiproxy.sql.values.uses import PLAIN


def test_pieces_and_occurrences_keep_everything_else() -> None:
    text = b"SELECT a /* hint */ FROM t WHERE b = $1"
    rendered = Rendered(text, [Edit(7, 8, b"f(a)")], [Occurrence(37, 39, PLAIN, number=1)])
    assert rendered.fill(lambda _i, _o: b"$7").strip() == b"SELECT f(a) /* hint */ FROM t WHERE b = $7"


def test_overlapping_edits_are_refused() -> None:
    with pytest.raises(StatementRefused):
        Rendered(b"SELECT abc", [Edit(7, 9, b"x"), Edit(8, 10, b"y")], [])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6)), max_size=6))
def test_positions_map_back(parts: list[tuple[int, int, int]]) -> None:
    client, server, edits, wanted = b"", b"", [], {}
    for same, old, new in parts:
        for _ in range(same):
            wanted[len(server)] = len(client)
            client, server = client + b"k", server + b"k"
        edits.append((len(client), len(client) + old, new))
        client, server = client + b"o" * old, server + b"n" * new
    wanted[len(server)] = len(client)
    to_client = position_map(edits)
    for there, here in wanted.items():
        assert to_client(there) == here


@pytest.mark.parametrize(
    ("rendered", "meant", "same"),
    [
        (b"SELECT  a FROM t", b"SELECT a FROM t", True),
        (b"SELECT b FROM t", b"SELECT a FROM t", False),
        (b"SELECT a FROM t, u", b"SELECT a FROM t", False),
        (b"SELECT a FROM", b"SELECT a FROM t", False),
        (b"SELECT a FROM t; SELECT 1", b"SELECT a FROM t", False),
        (b"SELECT a FROM t WHERE b = 'x'", b"SELECT a FROM t WHERE b = 'y'", False),
    ],
)
def test_verify_catches_a_wrong_splice(rendered: bytes, meant: bytes, same: bool) -> None:
    tree = [EditedTree({s.kind: s.body}) for s in parse(meant)]
    if same:
        verify(rendered, tree)
        return
    with pytest.raises(StatementRefused):
        verify(rendered, tree)
