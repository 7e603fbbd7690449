"""Bytes of a client for a database without a policy: all of them, in whatever pieces, but what is refused."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused, WireError
from phiproxy.session.unprotected_database import Gate
from phiproxy.wire.messages import SYNC, encode_parse, encode_query, message

WORD = b"forbidden DataBase"
PASSWORD = message(b"p", b"secret\0")
DATA = message(b"d", b"x" * 40)
FLOW = PASSWORD + encode_query(b"SELECT 1") + encode_parse(b"s", b"SELECT $1", [25]) + SYNC + DATA + encode_query(b"") + SYNC


def guard(text: bytes) -> StatementRefused | None:
    return StatementRefused("it's not", hint="Don't.") if WORD in text else None


def gate(limit: int = 1000) -> Gate:
    return Gate(guard, limit)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, 10_000])
def test_everything_passes_in_whatever_pieces(size: int) -> None:
    own = gate()
    passed = [own.passed(FLOW[i : i + size]) for i in range(0, len(FLOW), size)]
    assert b"".join(passed) == FLOW
    assert own.passed(b"") == b""


@pytest.mark.parametrize("size", [1, 3, 17, 10_000])
def test_what_is_refused_is_replaced_in_its_place(size: int) -> None:
    own = gate()
    said = PASSWORD + encode_query(b"SELECT " + WORD) + encode_parse(b"name", WORD, [25]) + SYNC + DATA
    out = b"".join(own.passed(said[i : i + size]) for i in range(0, len(said), size))
    assert WORD not in out
    text = (
        b"DO LANGUAGE plpgsql $phiproxy$BEGIN RAISE EXCEPTION USING ERRCODE = '0A000',"
        b" MESSAGE = 'phiproxy: it''s not (docs/errors.md#err-refused)', HINT = 'Don''t.'; END$phiproxy$"
    )
    assert out == PASSWORD + encode_query(text) + encode_parse(b"name", text) + SYNC + DATA


def test_a_text_is_held_until_it_is_whole_and_data_never() -> None:
    own = gate()
    query = encode_query(b"SELECT " + WORD)
    assert own.passed(query[:-1]) == b""
    assert WORD not in own.passed(query[-1:])
    assert own.passed(DATA[:10]) == DATA[:10]
    assert own.passed(DATA[10:] + SYNC) == DATA[10:] + SYNC


def test_what_is_too_long_or_cannot_be_read() -> None:
    with pytest.raises(WireError):
        gate(limit=20).passed(encode_query(b"x" * 30)[:10])
    assert gate(limit=20).passed(message(b"d", b"x" * 30)[:10]) != b""
    own = gate()
    for broken in (b"Q\0\0\0\x03", encode_query(WORD)):
        assert own.passed(broken) == broken, "the server ends the connection at the first of them"
    assert gate().passed(message(b"Q", b"no end")) == message(b"Q", b"no end")
