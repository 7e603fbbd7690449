"""COPY at work: fields sealed and opened by position, failures in their place, keys asked for in one step."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.keyring import Keyring
from phiproxy.crypto.seal import Record
from phiproxy.errors import DataKeyWant, IndexKeyWant, KeyNeeded, SealError, ValueRefused, WriteKeyWant
from phiproxy.long_values import LONG_VALUE
from phiproxy.plan import spelled_values
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.copy_sealing import BLOCK, CopyFailure, CopyIn, CopyOut, codec_of
from phiproxy.sql.result import ProtectedCopy, Reveal
from phiproxy.types.declared import DeclaredType
from phiproxy.wire.copy_rows import CopyFormat
from tests.clinic_model import PATIENTS, TEXT
from tests.crypto.envelopes import parse_envelope
from tests.plan.rings import full_ciphers, full_ring, index_key
from tests.wire.copies import LIMIT, Values, chunks

CSV = CopyFormat("csv", b",", b"")
NAMES = ("id", "ssn", "mrn", "notes")
REVEALS = tuple(Reveal(c, c.type) if (c := PATIENTS.columns.get(name)) is not None else None for name in NAMES)


def answer(form: CopyFormat, *, incoming: bool = True, skips: bool = False) -> ProtectedCopy:
    return ProtectedCopy("patients", NAMES, REVEALS, form, incoming=incoming, skips_errors=skips)


def stored(form: CopyFormat, data: bytes) -> Values:
    """Return what a server would store of the data that it gets."""
    codec = codec_of(form, LIMIT)
    rows = codec.feed(data)
    return [[None if raw is None else codec.read(raw, i) for i, raw in enumerate(row)] for row in rows]


values = st.none() | st.text(st.sampled_from('ab\\,"\n\r\té '), min_size=1, max_size=8).map(str.encode)


@given(st.lists(st.tuples(values, values, values, values).map(list), max_size=5), st.lists(st.integers(0, 999)))
@pytest.mark.parametrize("form", [CopyFormat(), CSV, CopyFormat("binary")])
def test_what_goes_in_comes_out(form: CopyFormat, wanted: Values, cuts: list[int]) -> None:
    ciphers = full_ciphers()
    writer = codec_of(form, LIMIT, from_server=True)
    null = None if form.format == "binary" else form.null
    rows: Values = [[null if v is None else writer.write(v, i) for i, v in enumerate(row)] for row in wanted]
    data = writer.join(rows)
    copying = CopyIn(answer(form), ciphers, LIMIT)
    if form.format == "binary":
        data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + data + b"\xff\xff"
    sent = b"".join(block for piece in chunks(data, cuts) for block in copying.feed(piece)) + b"".join(copying.finish())
    for row, clear in zip(stored(form, sent), wanted, strict=True):
        assert row[0] == clear[0]
        salts = set()
        for field, value in zip(row[1:], clear[1:], strict=True):
            if field is None:
                assert value is None
                continue
            envelope = parse_envelope(field if form.format == "binary" else bytes.fromhex(field[2:].decode()))
            salts.add((envelope.key_id, envelope.salt))
        # One salt per row and data key: the mrn's domain has a key of its own.
        assert len(salts) <= 2
    opened = CopyOut(answer(form, incoming=False), ciphers, LIMIT)
    assert b"".join(map(opened.feed, chunks(sent, [n * BLOCK for n in cuts]))) == data


@given(st.lists(st.tuples(*[st.none() | st.text("abé", min_size=1, max_size=5)] * 4), max_size=6), st.integers(0, 99))
def test_rows_are_sealed_as_values_are_one_by_one(wanted: list[tuple[str | None, ...]], cut: int) -> None:
    ciphers, codec = full_ciphers(), codec_of(CopyFormat(), LIMIT)
    data = b"".join("\t".join(v or "\\N" for v in row).encode() + b"\n" for row in wanted)
    copying = CopyIn(answer(CopyFormat()), ciphers, LIMIT)
    found = stored(CopyFormat(), b"".join(block for piece in chunks(data, [cut]) for block in copying.feed(piece)))
    assert len(found) == len(wanted)
    for row, clear in zip(found, wanted, strict=True):
        for field, value, reveal in zip(row, clear, REVEALS, strict=True):
            if field is None or value is None or reveal is None:
                assert field == (None if value is None else value.encode())
                continue
            envelope = bytes.fromhex(field[2:].decode())
            alone = ciphers.stores([reveal.column])[reveal.column](value.encode(), ciphers.draw(reveal.column.scope, 1)[0])
            assert codec.write_bytea(envelope) == b"\\" + field
            assert parse_envelope(envelope).header == parse_envelope(alone).header
            assert ciphers.open(reveal.column)(envelope) == value.encode()


def refused(*_values: object) -> list[Record]:
    raise AssertionError("a row is sealed by itself")


def test_rows_without_null_are_sealed_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    ciphers = full_ciphers()
    copying, clear = CopyIn(answer(CopyFormat()), ciphers, LIMIT), [[b"%d" % n, b"a%d" % n, b"m%d" % n, b""] for n in range(9)]
    monkeypatch.setattr(ciphers, "draw", refused)
    found = stored(CopyFormat(), b"".join(copying.feed(b"".join(b"\t".join(row) + b"\n" for row in clear))))
    protected = [reveal.column for reveal in REVEALS if reveal is not None]
    for row, own in zip(found, clear, strict=True):
        envelopes = [bytes.fromhex(value[2:].decode()) for value in row[1:] if value is not None]
        assert [ciphers.open(c)(envelope) for c, envelope in zip(protected, envelopes, strict=True)] == own[1:]
    assert ciphers.counts.values_stored()["public.patients.ssn"] == 9
    with pytest.raises(AssertionError, match="by itself"):
        copying.feed(b"9\ta\t\\N\tc\n")


def test_of_rows_without_null_too_it_is_said_which_is_refused() -> None:
    data = b"1\ta\tb\tc\n2\ta\tb12345678901234\tc\n3\ta\tb\tc\n"
    assert failure(data, CopyFormat()) == (*failure(data.replace(b"\t", b","))[:2], "COPY patients, line 2, column mrn", 1)
    sent = b"".join(CopyIn(answer(CopyFormat(), skips=True), full_ciphers(), LIMIT).feed(data))
    assert [row[2] == b"\\xz" for row in stored(CopyFormat(), sent)] == [False, True, False]


def test_nothing_is_drawn_twice_where_an_index_expression_refuses_a_value() -> None:
    ring = full_ring(uses=1)
    copying = CopyIn(answer(CopyFormat()), Ciphers(ring), LIMIT)

    def of_expression(*_values: object) -> list[bytes]:
        raise ValueRefused("an index expression has no value")

    copying._at_once[-1] = replace(copying._at_once[-1], slots=of_expression)
    assert len(copying.feed(b"1\ta\tb\tc\n")) == 1


def test_a_lease_that_ends_in_the_middle_loses_and_repeats_nothing() -> None:
    ring = full_ring(uses=5)
    copying = CopyIn(answer(CopyFormat()), Ciphers(ring), LIMIT)
    rows = [b"%d\ta\tb\t\\N\n" % n for n in range(9)]
    sent = copying.feed(b"".join(rows[:3]))
    balance = ring.balance("d:mrn")
    with pytest.raises(KeyNeeded) as caught:
        copying.feed(b"".join(rows[3:]))
    assert caught.value.wants == {WriteKeyWant("d:mrn", 6)}
    assert ring.balance("d:mrn") == balance
    for scope in ("d:mrn", "t:public.patients"):
        ring.put_lease(scope, full_ring().reserve(scope, 1), 10, 1e9)
    sent += copying.feed(b"".join(rows[3:]))
    assert [row[0] for row in stored(CopyFormat(), b"".join(sent))] == [b"%d" % n for n in range(9)]


def _all(copying: CopyIn, data: bytes) -> None:
    copying.feed(data)
    copying.finish()


def failure(data: bytes, form: CopyFormat = CSV, *, skips: bool = False) -> tuple[str, str, str | None, int]:
    copying = CopyIn(answer(form, skips=skips), full_ciphers(), LIMIT)
    with pytest.raises(CopyFailure) as caught:
        _all(copying, data)
    error = caught.value.error
    return error.sqlstate, error.message, caught.value.context, b"".join(copying.given()).count(b"\n")


@pytest.mark.parametrize(
    ("data", "sqlstate", "place", "sent"),
    [
        (b"1,a,b,c\n2,a\n", "22P04", "COPY patients, line 2", 1),
        (b"1,a,b,c\n2,a,b,c,d\n3,a,b,c\n", "22P04", "COPY patients, line 2", 1),
        (b"1,a,b,c\n2,a,b123456789012,c\n", "22001", "COPY patients, line 2, column mrn", 1),
        (b"1,a,b,c\xff\n", "22021", "COPY patients, line 1", 0),
        (b'1,a,b,"c', "22P04", "COPY patients, line 1", 0),
    ],
)
def test_a_row_that_cannot_be_stored(data: bytes, sqlstate: str, place: str, sent: int) -> None:
    found = failure(data)
    assert (found[0], found[2], found[3]) == (sqlstate, place, sent)
    assert "123456789012" not in found[1]


def test_an_empty_line_is_left_to_the_server() -> None:
    copying = CopyIn(answer(CopyFormat()), full_ciphers(), LIMIT)
    sent = b"".join(copying.feed(b"1\ta\tb\tc\n\n2\ta\tb\tc\n"))
    assert [line.count(b"\t") for line in sent.splitlines()] == [3, 0, 3]
    assert failure(b"1,a,b,c\na\n")[::2] == ("22P04", "COPY patients, line 2"), "what else is too short may hold anything"


def test_a_row_that_is_skipped_is_left_to_the_server_to_count() -> None:
    copying = CopyIn(answer(CopyFormat(), skips=True), full_ciphers(), LIMIT)
    sent = b"".join(copying.feed(b"1\ta\tb12345678901234\tc\n2\t\\N\tb\t\\N\n"))
    first, second = stored(CopyFormat(), sent)
    assert first[2:] == [b"\\xz", b"\\xz"]
    assert b"\tc\n" not in sent
    assert second[2] is not None
    assert failure(b"1,a,b\xff,c\n", skips=True)[0] == "22021"


def test_a_first_line_never_leaves() -> None:
    form = CopyFormat("csv", b",", b"", header="yes")
    sent = b"".join(CopyIn(answer(form), full_ciphers(), LIMIT).feed(b"1,a secret,b,c\n2,,,\n"))
    assert sent == b"id,ssn,mrn,notes\n2,,,\n"


@pytest.mark.parametrize(
    ("line", "fits"), [(b"id,ssn,mrn,notes", True), (b"id,ssn,notes,mrn", False), (b"id,ssn", False), (b",,,", False)]
)
def test_a_header_must_match(line: bytes, fits: bool) -> None:
    form = CopyFormat("csv", b",", b"", header="match")
    if fits:
        assert CopyIn(answer(form), full_ciphers(), LIMIT).feed(line + b"\n") == [line + b"\n"]
    else:
        assert failure(line + b"\n", form)[0::2] == ("22P04", "COPY patients, line 1")


def test_keys_are_asked_for_before_anything_is_drawn() -> None:
    ring = Keyring(lambda: 0.0)
    copying = CopyIn(answer(CopyFormat()), Ciphers(ring), LIMIT)
    data = b"1\ta\tb\t\\N\n2\ta\t\\N\t\\N\n"
    wants = []
    for _ in range(4):
        try:
            copying.feed(data)
        except KeyNeeded as need:
            wants.append(need.wants)
            fill(ring, need)
    assert wants == [{IndexKeyWant(1, 0), IndexKeyWant(3, 0)}, {WriteKeyWant("d:mrn", 1)}, {WriteKeyWant("t:public.patients", 2)}]


def fill(ring: Keyring, need: KeyNeeded) -> None:
    full = full_ring()
    for want in need.wants:
        if isinstance(want, IndexKeyWant):
            ring.put_index_key(want.number, want.slot, index_key(want.number), 1, 1e9)
        elif isinstance(want, WriteKeyWant):
            key = full.reserve(want.scope, want.uses)
            ring.put_data_key(key, 1e9)
            ring.put_lease(want.scope, key, want.uses + 1, 1e9)


def test_output_is_cut_into_blocks() -> None:
    blocks = CopyIn(answer(CopyFormat()), full_ciphers(), LIMIT).feed(b"1\t\\N\t\\N\t" + b"x" * (2 * BLOCK) + b"\n")
    assert all(len(block) <= BLOCK for block in blocks)
    assert len(blocks) > 4


def test_what_does_not_open_is_an_error() -> None:
    out = CopyOut(answer(CSV, incoming=False), full_ciphers(), LIMIT)
    with pytest.raises(SealError):
        out.feed(b"1,\\xf55001,,\n")


def test_a_long_row_is_asked_for_a_few_times_only() -> None:
    """To ask another thread takes two turns of the system's, and each end of a line in it might have been the row's."""
    data = b'1,2,m,"' + b"line\n" * (2 * LONG_VALUE // 5) + b'"\n7,8,m,short\n'
    steps, asked, outcome = CopyIn(answer(CSV), full_ciphers(), 1 << 30).steps(data, 0, len(data)), 0, None
    while True:
        try:
            work = steps.send(outcome)
        except StopIteration as end:
            sent = b"".join(end.value)
            break
        asked, outcome = asked + (work is not None), work() if work is not None else None
    assert len(stored(CSV, sent)) == 2
    assert 10 < asked < len(data) / BLOCK + 10


def test_memory_of_a_long_row_is_not_given_back_in_one_step() -> None:
    size = 2 * LONG_VALUE
    data = b"1\t2\tm\t%b\n" % (b"x" * size)
    steps, outcome, given_back = CopyIn(answer(CopyFormat()), full_ciphers(), 1 << 30).steps(data, 0, len(data)), None, 0
    tracemalloc.start()
    try:
        while True:
            before = tracemalloc.get_traced_memory()[0]
            try:
                work = steps.send(outcome)
            except StopIteration as end:
                sent = b"".join(end.value)
                break
            given_back = max(given_back, before - tracemalloc.get_traced_memory()[0])
            outcome = work() if work is not None else None
    finally:
        tracemalloc.stop()
    assert len(stored(CopyFormat(), sent)) == 1
    assert 0.9 * size < given_back < 1.5 * size  # what came; what is sent was never one whole


@pytest.mark.parametrize("form", [CopyFormat(), CSV, CopyFormat("csv", b"f", b"", quote=b"0"), CopyFormat("binary")])
def test_a_long_row_is_sent_on_as_short_ones_are(form: CopyFormat) -> None:
    writer = codec_of(form, LIMIT, from_server=True)
    long = b"x" * (LONG_VALUE + 1)
    clear: Values = [[b"1", b"a", None, long], [long, b"", b"m", b"b"], [b"3", b"c", b"n", b""]]
    null = None if form.format == "binary" else form.null
    data = writer.join([[null if v is None else writer.write(v, i) for i, v in enumerate(row)] for row in clear])
    data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + data + b"\xff\xff" if form.format == "binary" else data
    ciphers = full_ciphers()
    blocks = CopyIn(answer(form), ciphers, 1 << 30).feed(data)
    assert max(map(len, blocks)) <= BLOCK
    assert len(blocks) < 2 * sum(map(len, blocks)) / BLOCK + 10
    assert CopyOut(answer(form, incoming=False), ciphers, 1 << 30).feed(b"".join(blocks)) == data


@pytest.mark.parametrize("form", [CSV, CopyFormat("binary")], ids=["csv", "binary"])
@pytest.mark.parametrize("type_", [TEXT, DeclaredType.builtin("bpchar"), DeclaredType("public.name_of", 90001, base=TEXT)])
def test_what_a_long_row_spells_is_opened_with_keys_that_the_loop_has_taken(
    form: CopyFormat, type_: DeclaredType, monkeypatch: pytest.MonkeyPatch
) -> None:
    column, ciphers = replace(PATIENTS.columns["ssn"], type=type_), full_ciphers()
    reveals = tuple(Reveal(column, type_) if name == "ssn" else reveal for name, reveal in zip(NAMES, REVEALS, strict=True))
    copy = replace(answer(form), reveals=reveals)
    envelope = ciphers.stores([column])[column](b"x" * LONG_VALUE, ciphers.draw(column.scope, 1)[0])
    writer = codec_of(form, LIMIT, from_server=True)
    values = b"1", b"\\x" + envelope.hex().encode(), b"m", b""
    row: list[bytes | None] = [writer.write(value, i) for i, value in enumerate(values)]
    data = (b"" if form is CSV else b"PGCOPY\n\xff\r\n\0" + bytes(8)) + writer.join([row])

    def apart(work: Callable[[], object]) -> object:
        with monkeypatch.context() as patch:
            patch.delattr(Keyring, "data_key_until")
            return work()

    def taken() -> None:
        steps, outcome = CopyIn(copy, full_ciphers(), 1 << 30).steps(data, 0, len(data)), None
        while True:
            work = steps.send(outcome)
            outcome = apart(work) if work is not None else None

    with pytest.raises(CopyFailure) as failed:
        taken()
    assert "spelling of a stored one" in failed.value.error.message


def test_the_keys_of_all_that_rows_spell_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(numbers: range, notes: bytes) -> None:
        rows = [b"1,\\xf550010100%08x000100%b,m,%b\n" % (number, b"00" * 44, notes) for number in numbers]
        CopyIn(answer(CSV), full_ciphers(), 1 << 30).feed(b"".join(rows))

    with pytest.raises(KeyNeeded) as needed:
        feed(range(10_001, 10_021), b"")
    assert needed.value.wants == {DataKeyWant(number) for number in range(10_001, 10_021)}
    monkeypatch.setattr(spelled_values, "MOST_KEYS", 0)
    with pytest.raises(CopyFailure, match="fails") as failed:
        feed(range(10_001, 10_002), b"x" * LONG_VALUE)
    assert "more than 0 data keys" in failed.value.error.message
