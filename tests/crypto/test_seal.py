"""Sealed values open where they belong and nowhere else; every bit counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from phiproxy import long_values
from phiproxy.crypto import seal as seal_module
from phiproxy.crypto.envelope import frame, unpad
from phiproxy.crypto.key_derivation import expand, wipe
from phiproxy.crypto.keyring import DataKey, Keyring, KeyState
from phiproxy.crypto.seal import (
    ColumnSpec,
    LastRecord,
    OpenMemo,
    Record,
    default_spec,
    draw_record,
    draw_records,
    make_opener,
    make_sealer,
    make_span_opener,
)
from phiproxy.errors import KeyNeeded, LongWorkNeeded, SealError
from tests.crypto.envelopes import parse_envelope

SECRET = bytes(range(32))
SPEC = ColumnSpec("clinic-prod", "", "c:public.patients.ssn", 7)


def data_key(key_id: int = 5, *, secret: bytes = SECRET, tenant: str = "", state: KeyState = "active") -> DataKey:
    return DataKey(key_id, "t:public.patients", tenant, 1, secret, state)


def ring_with(*keys: DataKey) -> Keyring:
    ring = Keyring(lambda: 0.0)
    for key in keys:
        ring.put_data_key(key, 10)
    return ring


def opener(spec: ColumnSpec = SPEC, key: DataKey | None = None) -> Callable[[bytes], bytes]:
    return make_opener(spec, ring_with(key or data_key()), OpenMemo())


def sealed(plaintext: bytes, spec: ColumnSpec = SPEC, slots: int = 0) -> bytes:
    return make_sealer(spec)(plaintext, draw_record(data_key()), b"".join(bytes([n + 1]) * 16 for n in range(slots)))


@given(
    st.binary(max_size=200),
    st.one_of(st.none(), st.integers(2, 80)),
    st.lists(st.binary(min_size=16, max_size=16), max_size=4),
)
def test_what_is_sealed_opens(plaintext: bytes, pad: int | None, slots: list[bytes]) -> None:
    spec = ColumnSpec("dep", "", "d:mrn", 3, pad)
    value = make_sealer(spec)(plaintext, draw_record(data_key()), b"".join(slots))
    assert opener(spec)(value) == plaintext
    if pad is None:
        assert len(value) == 56 + 16 * len(slots) + len(plaintext)
    else:
        assert (len(value) - 56 - 16 * len(slots)) % pad == 0
    # The flag, not the policy, decides on reading.
    assert opener(ColumnSpec("dep", "", "d:mrn", 3, None if pad else 16))(value) == plaintext


def test_two_executions_share_nothing_but_the_tags() -> None:
    one, two = (parse_envelope(sealed(b"123-45-6789", slots=2)) for _ in range(2))
    assert one.header == two.header
    assert one.salt != two.salt
    assert one.nonce != two.nonce
    assert one.sealed != two.sealed


def test_columns_of_one_row_share_a_salt_but_no_nonce() -> None:
    record, seal = draw_record(data_key()), make_sealer(SPEC)
    one, two = (parse_envelope(seal(b"same", record, b"")) for _ in range(2))
    assert one.salt == two.salt
    assert one.nonce != two.nonce


def test_records_drawn_together_are_each_their_own() -> None:
    records, seal, open_value = draw_records(data_key(), 50), make_sealer(SPEC), opener()
    assert len({record.salt for record in records}) == 50
    assert [open_value(seal(b"%d" % n, record, b"")) for n, record in enumerate(records)] == [b"%d" % n for n in range(50)]


def test_the_header_follows_the_data_key_and_the_slots() -> None:
    seal, one, other = make_sealer(SPEC), draw_record(data_key(5)), draw_record(data_key(6))
    drawn = [(one, 0), (one, 1), (other, 1), (other, 0), (one, 2), (other, 2), (one, 2)]
    for record, slots in drawn:
        found = parse_envelope(seal(b"x", record, b"t" * 16 * slots))
        assert (found.key_id, found.slots) == (record.key_id, (b"t" * 16,) * slots)
        assert opener(key=data_key(record.key_id))(seal(b"x", record, b"t" * 16 * slots)) == b"x"


@pytest.mark.parametrize(("slots", "pad"), [(0, None), (1, None), (3, None), (3, 16), (0, 16)])
def test_any_flipped_bit_is_an_error(slots: int, pad: int | None) -> None:
    spec = ColumnSpec("clinic-prod", "", "c:public.patients.ssn", 7, pad)
    value = sealed(b"123-45-6789", spec, slots)
    ring = ring_with(data_key())
    open_value = make_opener(spec, ring, OpenMemo())
    for bit in range(len(value) * 8):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            open_value(bytes(flipped))
        except SealError:
            continue
        except KeyNeeded:
            assert 5 <= bit // 8 < 9
            ring.put_missing(int.from_bytes(flipped[5:9], "big"), 5)
            with pytest.raises(SealError, match="not known"):
                open_value(bytes(flipped))
        else:
            pytest.fail(f"bit {bit} does not matter")
    assert open_value(value) == b"123-45-6789"


def test_any_other_length_is_an_error() -> None:
    value, open_value = sealed(b"123-45-6789", slots=1), opener()
    for end in range(len(value)):
        with pytest.raises(SealError):
            open_value(value[:end])
    with pytest.raises(SealError):
        open_value(value + b"\x00")


@pytest.mark.parametrize(
    "spec",
    [
        ColumnSpec("clinic-test", "", SPEC.identity, SPEC.number),
        ColumnSpec(SPEC.deployment, "", "c:public.patients.mrn", SPEC.number),
        ColumnSpec(SPEC.deployment, "", SPEC.identity, 8),
        ColumnSpec(SPEC.deployment, "acme", SPEC.identity, SPEC.number),
        # The same characters, cut differently.
        ColumnSpec("clinic-pro", "", "d" + SPEC.identity, SPEC.number),
    ],
)
def test_a_moved_value_does_not_open(spec: ColumnSpec) -> None:
    with pytest.raises(SealError):
        opener(spec)(sealed(b"x"))
    with pytest.raises(SealError):
        opener(spec, data_key(tenant=spec.tenant))(sealed(b"x"))


def test_another_key_of_the_same_id_does_not_open() -> None:
    with pytest.raises(SealError, match="data key 5") as caught:
        opener(SPEC, data_key(secret=b"\xff" * 32))(sealed(b"secret text"))
    assert "secret text" not in repr(caught.value)


def doubtful(noticed: list[DataKey]) -> Callable[[DataKey], Callable[[], None] | None]:
    """Return what has the openings under keys noted that are compromised or stale."""
    return lambda key: partial(noticed.append, key) if key.stale or key.state == "compromised" else None


def test_every_opening_is_noted_where_that_is_asked_for() -> None:
    noticed: list[DataKey] = []
    asked: list[int] = []

    def note(key: DataKey) -> Callable[[], None]:
        asked.append(key.id)
        return partial(noticed.append, key)

    key = data_key()
    open_value, value = make_opener(SPEC, ring_with(key), OpenMemo(), note), sealed(b"x")
    for _ in range(3):
        open_value(value)
    assert (noticed, asked) == ([key] * 3, [key.id])


@pytest.mark.parametrize("state", ["pending", "decrypt_only"])
def test_states_that_open_quietly(state: KeyState) -> None:
    noticed: list[DataKey] = []
    open_value = make_opener(SPEC, ring_with(data_key(state=state)), OpenMemo(), doubtful(noticed))
    assert open_value(sealed(b"x")) == b"x"
    assert noticed == []


def test_compromised_and_stale_keys_are_noticed_each_time() -> None:
    for key in (data_key(state="compromised"), DataKey(5, "s", "", 1, SECRET, "active", stale=True)):
        noticed: list[DataKey] = []
        open_value = make_opener(SPEC, ring_with(key), OpenMemo(), doubtful(noticed))
        value = sealed(b"x")
        open_value(value)
        open_value(value)
        assert noticed == [key, key]


KEYS = [data_key(5), data_key(6, secret=b"\1" * 32), data_key(7, secret=b"\2" * 32, state="compromised")]


def record_keys(memo: OpenMemo) -> int:
    return sum(last.cipher is not None for last in memo._last.values())


def by_the_book(data: bytes, spec: ColumnSpec) -> bytes:
    """Open a value as spec/stored-format 2.1 says it, without a shortcut."""
    parsed = parse_envelope(data, spec.number)
    key = next((k for k in KEYS if k.id == parsed.key_id), None)
    if key is None:
        raise KeyNeeded(())
    cipher = AESGCM(expand(key.secret, b"phi/record/v1", parsed.salt))
    try:
        bound = (part.encode() for part in (spec.deployment, spec.tenant, spec.identity))
        plaintext = cipher.decrypt(parsed.nonce, parsed.sealed, frame(b"phi/aad/v1", parsed.header, *bound))
    except InvalidTag:
        raise SealError("") from None
    return unpad(plaintext) if parsed.padded else plaintext


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=20), st.sampled_from(KEYS), st.sampled_from([None, 16]), st.integers(0, 2), st.integers(-9, 90)
        ),
        max_size=9,
    ),
    st.binary(max_size=9),
    st.binary(max_size=9),
)
def test_an_opener_of_runs_is_the_reference(
    values: list[tuple[bytes, DataKey, int | None, int, int]], before: bytes, behind: bytes
) -> None:
    """Keys, widths and paddings change within the run, and some values are damaged or cut short."""
    noticed: list[DataKey] = []
    open_span = make_span_opener(SPEC, ring_with(*KEYS), OpenMemo(limit=3), doubtful(noticed))
    compromised = 0
    for plaintext, key, pad, slots, damage in values:
        tags = b"".join(bytes([n + 1]) * 16 for n in range(slots))
        value = make_sealer(replace(SPEC, pad=pad))(plaintext, draw_record(key), tags)
        if damage < 0:
            value = value[: 9 * -damage]
        elif damage < len(value):
            value = value[:damage] + bytes([value[damage] ^ 1]) + value[damage + 1 :]
        data = before + value + behind
        try:
            expected = by_the_book(value, SPEC)
        except (SealError, KeyNeeded) as error:
            with pytest.raises(type(error)):
                open_span(data, len(before), len(before) + len(value))
        else:
            assert open_span(data, len(before), len(before) + len(value)) == expected
            compromised += key.state == "compromised"
    assert len(noticed) == compromised


def test_an_empty_field_is_no_value_whatever_came_before() -> None:
    open_span = make_span_opener(SPEC, ring_with(data_key()), OpenMemo())
    for _ in range(2):
        with pytest.raises(SealError):
            open_span(b"", 0, 0)
        value = sealed(b"x")
        assert open_span(value, 0, len(value)) == b"x"
        with pytest.raises(SealError):
            open_span(value, len(value), len(value))


def test_a_run_looks_at_the_clock_once() -> None:
    now = [0.0]
    ring, memo = Keyring(lambda: now[0]), OpenMemo()
    ring.put_data_key(data_key(), 10)
    open_span, value = make_span_opener(SPEC, ring, memo), sealed(b"x")
    open_span(value, 0, len(value))
    now[0] = 10
    assert open_span(value, 0, len(value)) == b"x"
    memo.look_at_clock(now[0])
    with pytest.raises(KeyNeeded):
        open_span(value, 0, len(value))


def test_retired_keys_do_not_open_even_with_a_warm_memo() -> None:
    ring, memo = ring_with(data_key()), OpenMemo()
    open_value, value = make_opener(SPEC, ring, memo), sealed(b"x")
    open_value(value)
    ring.put_missing(5, 5, "retired")
    assert record_keys(memo) == 0
    with pytest.raises(SealError, match="data key 5 is retired"):
        open_value(value)


def test_an_expired_key_takes_its_record_keys_along() -> None:
    now = [0.0]
    ring, memo = Keyring(lambda: now[0]), OpenMemo()
    ring.put_data_key(data_key(), 10)
    open_value, value = make_opener(SPEC, ring, memo), sealed(b"x")
    open_value(value)
    assert record_keys(memo) == 1
    now[0] = 10
    with pytest.raises(KeyNeeded):
        open_value(value)
    assert record_keys(memo) == 0


def test_the_memo_derives_once_per_run_of_a_salt_and_data_key(monkeypatch: pytest.MonkeyPatch) -> None:
    derived, derive = list[bytes](), LastRecord.derive

    def counting(last: LastRecord, salt: bytes) -> AESGCM:
        derived.append(salt)
        return derive(last, salt)

    seal = make_sealer(SPEC)
    rows = [[seal(b"x", record, b"") for _ in range(5)] for record in map(draw_record, KEYS[:2])]
    monkeypatch.setattr(LastRecord, "derive", counting)
    memo = OpenMemo()
    open_value = make_opener(SPEC, ring_with(*KEYS), memo)
    for both in zip(*rows, strict=True):
        assert [open_value(value) for value in both] == [b"x"] * 2
    assert len(derived) == record_keys(memo) == 2
    assert open_value(sealed(b"y")) == b"y"
    assert open_value(rows[0][0]) == b"x"


def test_the_memo_is_bounded() -> None:
    keys = [replace(data_key(), id=number) for number in range(1, 30)]
    memo = OpenMemo(limit=8)
    open_value = make_opener(SPEC, ring_with(*keys), memo)
    for key in (*keys, *keys):
        assert open_value(make_sealer(SPEC)(b"x", draw_record(key), b"")) == b"x"
        assert 0 < record_keys(memo) <= 8


def test_the_memo_takes_the_key_that_is_in_the_ring_now() -> None:
    now = [0.0]
    ring, memo, noticed = Keyring(lambda: now[0]), OpenMemo(), list[DataKey]()
    ring.put_data_key(data_key(), 10)
    open_value, value = make_opener(SPEC, ring, memo, doubtful(noticed)), sealed(b"x")
    assert open_value(value) == b"x"
    ring.put_data_key(data_key(state="compromised"), 10)
    assert open_value(value) == b"x"
    assert [key.state for key in noticed] == ["compromised"]
    assert record_keys(memo) == 1


def test_callers_mistakes_are_not_written() -> None:
    seal = make_sealer(SPEC)
    with pytest.raises(ValueError, match="tenant"):
        seal(b"x", draw_record(data_key(tenant="acme")), b"")
    with pytest.raises(ValueError, match="16 bytes"):
        seal(b"x", draw_record(data_key()), b"short")
    with pytest.raises(TypeError):
        seal("text", draw_record(data_key()), b"")  # type: ignore[arg-type]
    for bad in (1, 65537):
        with pytest.raises(ValueError, match="pad"):
            ColumnSpec("d", "", "c:x", 1, bad)
    with pytest.raises(ValueError, match="number"):
        ColumnSpec("d", "", "c:x", 0)


def test_no_repr_holds_a_secret() -> None:
    record, memo = draw_record(data_key(secret=b"A" * 32)), OpenMemo()
    assert "AAAA" not in repr([record, memo])


def test_a_kept_key_seals_and_opens_as_the_key_itself_does_until_it_is_overwritten() -> None:
    plain, salt = data_key(), b"s" * 16
    kept = plain.kept()
    nonce = b"n" * 12
    sealed = Record(plain, salt).cipher.encrypt(nonce, b"ada", b"")
    assert Record(kept, salt).cipher.decrypt(nonce, sealed, b"") == b"ada"
    assert LastRecord(kept).derive(salt).decrypt(nonce, sealed, b"") == b"ada"
    wipe(kept.secret)
    with pytest.raises(ValueError, match="32 bytes"):
        Record(kept, salt)


LIMIT = 64


@pytest.fixture
def long_from_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is longer than 64 bytes be long, and pieces be of 16."""
    monkeypatch.setattr(seal_module, "LONG_VALUE", LIMIT)
    monkeypatch.setattr(long_values, "PIECE", 16)


@pytest.mark.usefixtures("long_from_64")
@pytest.mark.parametrize("pad", [None, 2, 16, 61])
def test_a_long_value_is_stored_as_a_short_one_would_be(monkeypatch: pytest.MonkeyPatch, pad: int | None) -> None:
    """By the same salt and nonce, byte for byte; and each opens what the other has sealed."""
    spec, ring = replace(SPEC, pad=pad), ring_with(data_key())
    for length in range(LIMIT - 2, LIMIT + 70):
        value = bytes(length - 3) + b"x\0\0"
        record = Record(data_key(), bytes(16))
        monkeypatch.setattr(os, "urandom", bytes)
        monkeypatch.setattr(seal_module, "LONG_VALUE", LIMIT)
        pieces = make_sealer(spec)(value, record, b"s" * 32)
        assert make_opener(spec, ring, OpenMemo())(pieces) == value
        monkeypatch.setattr(seal_module, "LONG_VALUE", 1_000)
        whole = make_sealer(spec)(value, record, b"s" * 32)
        assert pieces == whole
        assert make_opener(spec, ring, OpenMemo())(pieces) == value


@pytest.mark.usefixtures("long_from_64")
def test_a_long_value_with_a_wrong_bit_shows_nothing() -> None:
    value = sealed(b"a secret " * 20, slots=1)
    open_value = opener()
    for at in range(len(value)):
        wrong = bytearray(value)
        wrong[at] ^= 1
        with pytest.raises((SealError, KeyNeeded)) as caught:
            open_value(bytes(wrong))
        assert "secret" not in str(caught.value)
    for end in range(len(value)):
        with pytest.raises(SealError):
            open_value(value[:end])
    assert open_value(value) == b"a secret " * 20


@pytest.mark.usefixtures("long_from_64")
def test_a_long_value_without_padding_behind_its_flag_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_module, "padding", lambda _length, _multiple: b"\0" * 40)
    value = sealed(bytes(100), replace(SPEC, pad=2))
    with pytest.raises(SealError, match="padding"):
        opener()(value)


@pytest.mark.usefixtures("long_from_64")
def test_a_long_value_is_opened_by_whoever_is_asked_for_it() -> None:
    """What that needs of the ring is taken before, so that the key may be given up meanwhile."""
    ring, memo = ring_with(data_key()), OpenMemo()
    open_value = make_opener(SPEC, ring, memo)
    value = sealed(b"x" * 100)
    with memo.long_work.given([]), pytest.raises(LongWorkNeeded) as needed:
        open_value(value)
    ring.clear()
    assert not ring.held()
    assert needed.value.work() == b"x" * 100


@pytest.mark.usefixtures("long_from_64")
def test_a_record_key_that_was_taken_outlives_the_data_key() -> None:
    key = data_key().kept()
    taken, late = draw_record(key), draw_record(key)
    taken.secret()
    wipe(key.secret)
    seal = make_sealer(SPEC)
    assert opener()(seal(b"x" * 100, taken, b"")) == b"x" * 100
    with pytest.raises(ValueError, match="32 bytes"):
        seal(b"x" * 100, late, b"")


def test_the_text_of_a_default_is_no_value_and_no_value_is_one() -> None:
    of_default = default_spec(SPEC)
    assert opener(of_default)(sealed(b"upper('x')", of_default)) == b"upper('x')"
    for one, other in ((SPEC, of_default), (of_default, SPEC)):
        with pytest.raises(SealError):
            opener(one)(sealed(b"upper('x')", other))
