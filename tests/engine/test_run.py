"""What is said over a connection, sans-I/O: however the engine's bytes are cut, the same comes of them; a failure is told once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from struct import pack

import pytest

from phiproxy.engine.failures import EngineDisagrees, EngineFull, EngineUnavailable
from phiproxy.engine.rest import Rest, Values
from phiproxy.engine.rows_into_engine import Column, ColumnType, Counted
from phiproxy.engine.run import Run, Said
from phiproxy.errors import StatementFailed
from phiproxy.wire.messages import encode_error_fields, encode_parameter_description, message
from tests.engine.both import Both, compute, data_row

TEXT = (Column(25),)
TYPES = (ColumnType("text", "text[]"),)
REST = Rest((b"SELECT n FROM ", b" AS p (n)"), TEXT)
ROW = data_row([b"x"])
PARSED, BOUND, READY, COPY_IN = message(b"1", b""), message(b"2", b""), message(b"Z", b"I"), message(b"G", b"\1\0\1\0\1")
DESCRIBED = message(b"T", b"\0\1n\0" + bytes(18))


def done(tag: bytes) -> bytes:
    return message(b"C", tag + b"\0")


def error(state: str, text: str = "a message with a value", position: str = "") -> bytes:
    fields = [(83, b"ERROR"), (67, state.encode()), (77, text.encode())]
    return encode_error_fields(b"E", [*fields, (80, position.encode())] if position else fields)


def run(said: Said | None = None, rest: Rest = REST, types: tuple[ColumnType, ...] = TYPES) -> Run:
    return Run(said or Said(), rest, types, Counted(compute().limits))


def tags(data: bytes) -> bytes:
    """Return the tags of messages."""
    found, at = b"", 0
    while at < len(data):
        found += data[at : at + 1]
        at += 1 + int.from_bytes(data[at + 1 : at + 5], "big")
    return found


def test_few_rows_are_said_at_once() -> None:
    said = Said()
    one = run(said)
    assert tags(one.begin({"timezone": "UTC"})) == b"Q"
    assert one.rows(ROW) == b""
    assert tags(one.execute(Values())) == b"PBDES"
    assert one.feed(done(b"SET") + READY + PARSED + BOUND + DESCRIBED + ROW) == [DESCRIBED + ROW]
    assert one.feed(done(b"SELECT 1") + READY) == [done(b"SELECT 1")]
    assert one.done
    assert said.settings == {"timezone": "UTC"}
    again = run(said)
    assert again.begin({"timezone": "UTC"}) == b""
    assert tags(again.execute(Values())) == b"BDES"


def test_many_rows_are_copied() -> None:
    said = Said()
    one = run(said)
    one.begin({})
    assert one.rows(ROW * 100) == b""
    assert tags(one.rows(ROW)) == b"QPBEd" + b"d" * 101
    assert tags(one.rows(ROW * 3)) == b"ddd"
    assert tags(one.execute(Values())) == b"dcPBDES"
    table = done(b"BEGIN") + done(b"CREATE TABLE") + done(b"COMMIT") + READY
    assert one.feed(table + PARSED + BOUND + COPY_IN + done(b"COPY 104")) == []
    result = DESCRIBED + ROW + ROW + done(b"SELECT 2")
    assert one.feed(PARSED + BOUND + result + READY) == [result]
    assert one.done
    again = run(said)
    again.begin({})
    again.rows(ROW * 101)
    assert tags(again.execute(Values())) == b"dcBDES"


def test_a_rest_is_explained_over_the_same_rows() -> None:
    said, rest = Said(), dataclasses.replace(REST, stands=True, explained=b"EXPLAIN ANALYZE ")
    for first in (True, False):
        one = run(said, rest)
        one.begin({})
        one.rows(ROW)
        sent = one.execute(Values())
        assert tags(sent) == (b"QPBEdddcP" if first else b"PBEdddc") + b"PBEBDES"
        assert b"EXPLAIN ANALYZE SELECT n FROM pg_temp.phi_1 AS p (n)" in sent
        table = (done(b"BEGIN") + done(b"CREATE TABLE") + done(b"COMMIT") + READY) if first else b""
        assert one.feed(table + PARSED + BOUND + COPY_IN + done(b"COPY 1") + (PARSED if first else b"")) == []
        plan, result = ROW + done(b"EXPLAIN"), DESCRIBED + ROW + done(b"SELECT 1")
        assert b"".join(one.feed(PARSED + BOUND + plan + BOUND + result + READY)) == plan + result
        assert one.done


def test_a_statement_is_parsed_again_under_other_settings() -> None:
    said = Said()
    for settings in ({"datestyle": "ISO"}, {"datestyle": "SQL"}):
        one = run(said)
        one.begin(settings)
        assert b"P" in tags(one.execute(Values()))
        one.feed(done(b"SET") + READY + PARSED + BOUND + DESCRIBED + done(b"SELECT 0") + READY)
    one = run(said)
    one.begin({"datestyle": "ISO"})
    assert tags(one.execute(Values())) == b"BDES"


def test_a_session_that_cannot_be_like_the_client_s_shows_nothing() -> None:
    said = Said()
    one = run(said)
    one.begin({"lc_time": "xx_XX"})
    one.execute(Values())
    assert one.feed(error("22023") + READY + PARSED + BOUND + DESCRIBED + ROW + done(b"SELECT 1") + READY) == []
    assert isinstance(one.failed, EngineDisagrees)
    assert one.failed.message == "the engine did not take the session's settings (22023)"
    assert one.done
    assert said.settings == {}


def test_what_is_around_the_statement_is_not_the_client_s() -> None:
    one = run()
    one.begin({})
    one.rows(ROW * 101)
    one.execute(Values())
    one.feed(done(b"BEGIN") + error("42704") + READY + error("42P01") + READY)
    assert isinstance(one.failed, EngineDisagrees)
    assert "a table (42704)" in one.failed.message


@pytest.mark.parametrize(
    ("state", "kind"), [("53100", EngineFull), ("53400", EngineFull), ("57P01", EngineUnavailable), ("22012", StatementFailed)]
)
def test_failures(state: str, kind: type[Exception]) -> None:
    one = run()
    one.begin({})
    one.execute(Values())
    one.feed(PARSED + BOUND + DESCRIBED + ROW + error(state) + READY)
    assert type(one.failed) is kind
    assert "value" not in str(one.failed)
    assert one.done


def test_a_statement_that_was_not_parsed_is_parsed_the_next_time() -> None:
    said = Said()
    for _ in range(2):
        one = run(said)
        one.begin({})
        assert tags(one.execute(Values())) == b"PBDES"
        one.feed(error("42601", position="5") + READY)
        assert isinstance(one.failed, StatementFailed)
        assert one.failed.position == 5
        assert 80 not in dict(one.failed.fields)


def test_rows_that_end_too_soon() -> None:
    one = run()
    one.begin({})
    assert one.give_up() == b""
    one.rows(ROW * 101)
    assert tags(one.give_up()) == b"fS"
    assert one.give_up() == b""
    one.feed(done(b"BEGIN") + READY + PARSED + BOUND + COPY_IN + error("57014") + READY)
    assert one.done
    assert tags(one.clean()) == b"Q"
    one.feed(done(b"COMMIT") + READY)
    assert one.done
    few = run()
    few.begin({})
    few.rows(ROW)
    assert few.clean() == b""


def test_a_limited_portal() -> None:
    one = run()
    one.begin({})
    assert tags(one.execute(Values(), 1)) == b"PBDEH"
    one.feed(PARSED + BOUND + DESCRIBED + ROW + message(b"s", b""))
    assert one.suspended
    assert tags(one.more(5)) == b"EH"
    assert not one.suspended
    one.feed(ROW + done(b"SELECT 1"))
    assert one.suspended
    assert one.end() == message(b"S", b"")
    one.feed(READY)
    assert one.done
    assert not one.suspended


def test_the_description_has_the_client_s_parameters_only() -> None:
    one = run(rest=Rest((b"SELECT n, $1 FROM ", b" AS p (n)"), TEXT, 1))
    one.begin({})
    assert tags(one.describe()) == b"PDS"
    assert one.feed(PARSED + encode_parameter_description((23, 1009)) + DESCRIBED + READY) == [
        encode_parameter_description((23,)),
        DESCRIBED,
    ]


def test_arrays_are_behind_the_client_s_parameters() -> None:
    one = run(rest=Rest((b"SELECT n, $1 FROM ", b" AS p (n)"), TEXT, 1))
    one.begin({})
    one.rows(ROW)
    said = one.execute(Values([b"v"], (), (1,)))
    assert b"pg_catalog.unnest($2::text[])" in said
    assert pack("!HHHH", 2, 0, 1, 2) + pack("!i", 1) + b"v" in said


STATEMENTS = [
    ("SELECT n, n FROM {} AS p (n)", 3),
    ("SELECT n FROM {} AS p (n)", 300),
    ("SELECT 1/(n::int - 3) FROM {} AS p (n)", 5),
]


@pytest.mark.parametrize(("text", "count"), STATEMENTS)
async def test_however_it_is_cut_the_same_is_shown(both: Both, monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> None:
    rest = Rest(tuple(part.encode() for part in text.split("{}")), TEXT)
    chunks: list[bytes] = []
    shown: list[bytes] = []
    with contextlib.suppress(StatementFailed):
        async with both.database.computing(rest, both.session()) as computation:
            feed = computation._run.feed

            def recorded(data: bytes) -> list[bytes]:
                chunks.append(data)
                return feed(data)

            monkeypatch.setattr(computation._run, "feed", recorded)
            await computation.rows(b"".join(data_row([b"%d" % n]) for n in range(count)))
            async for piece in computation.results(Values()):
                shown.append(piece)  # noqa: PERF401 - what came before an error counts too
    async with asyncio.timeout(120):  # an error comes before the ReadyForQuery, perhaps in a chunk of its own
        while not computation._run.done:
            await asyncio.sleep(0.01)
    everything = b"".join(chunks)
    assert everything
    cuts = [[n] for n in range(0, len(everything), 3)] + [list(range(0, len(everything), step)) for step in (1, 2, 5, 100)]
    for cut in cuts:
        one = run(rest=rest)
        one.begin({"timezone": "UTC"})
        one.rows(ROW * count)
        one.execute(Values())
        places = [0, *cut, len(everything)]
        out = [piece for begin, end in itertools.pairwise(places) for piece in one.feed(everything[begin:end])]
        assert b"".join(out) == b"".join(shown)
        assert one.done
        assert (one.failed is None) == ("1/" not in text)
