"""Texts without values."""

from __future__ import annotations

import pytest

from phiproxy.sql.text.observed_text import MOST, normalised


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("SELECT id FROM t WHERE a = 'x' AND b = $1", "SELECT id FROM t WHERE a = ? AND b = $1"),
        ("SELECT 1,-2.5 , 1e5\n, B'01', X'ff', E'a\\'b', U&'x', $$secret$$, $q$secret$q$, 'é'", "SELECT ?,-?, …"),
        ("SELECT a WHERE a IN ('x','y', 'z') -- secret\n /* secret */ LIMIT 5;", "SELECT a WHERE a IN (?, …) LIMIT ?"),
        ("INSERT INTO t VALUES ('x', NULL), ('y', 1),('z', DEFAULT) RETURNING a", "INSERT INTO t VALUES (?, NULL), … RETURNING a"),
        ('SELECT "A b"\n\n  FROM  s."T"', 'SELECT "A b" FROM s."T"'),
        ("DO $$ BEGIN PERFORM 'secret'; END $$", "DO ?"),
        ("SELECT 'secret' 'secret' FROM t", "SELECT ? ? FROM t"),
        ("SET a TO 'x'; SELECT date '2001-01-01'", "SET a TO ?; SELECT date ?"),
    ],
)
def test_shape(text: str, shape: str) -> None:
    assert normalised(text.encode()) == shape


@pytest.mark.parametrize("text", [b"SELECT 'secret", b"SELECT $a$ secret"])
def test_what_cannot_be_read(text: bytes) -> None:
    assert normalised(text) is None


def test_a_long_one_is_cut() -> None:
    shape = normalised(b"SELECT " + b", ".join(b"column_%d" % n for n in range(1000)))
    assert shape is not None
    assert len(shape) == MOST
    assert shape.endswith("…")
