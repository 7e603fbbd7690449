"""What is sealed column by column is what is sealed value by value, under salts and nonces of its own."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.key_derivation import wipe
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, draw_record, make_opener, make_sealer
from phiproxy.crypto.seal_rows import draw_row_keys, make_column_sealer
from tests.crypto.envelopes import parse_envelope

SPEC = ColumnSpec("clinic-prod", "", "c:public.patients.ssn", 7)
KEY = DataKey(5, "t:public.patients", "", 1, bytes(range(32)), "active")


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=5), st.sampled_from([None, 32]), st.integers(0, 3), st.booleans())
def test_each_value_opens_and_has_salt_and_nonce_of_its_own(values: list[bytes], pad: int | None, slots: int, kept: bool) -> None:
    spec, ring = replace(SPEC, pad=pad), Keyring(lambda: 0.0)
    ring.put_data_key(KEY, 10)
    own = [bytes([n + 1]) * 16 * slots for n in range(len(values))]
    sealed = make_column_sealer(spec)(values, draw_row_keys(KEY.kept() if kept else KEY, len(values)), own)
    assert [*map(make_opener(spec, ring, OpenMemo()), sealed)] == values
    parts = [parse_envelope(envelope) for envelope in sealed]
    assert len({part.salt for part in parts}) == len({part.nonce for part in parts}) == len(values)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, pad=16), replace(SPEC, path="$.name")])
@pytest.mark.parametrize("slots", [b"", bytes(range(32))])
def test_with_the_same_salt_and_nonce_the_bytes_are_the_same(
    spec: ColumnSpec, slots: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    alone = make_sealer(spec)
    values = [b"", b"x" * 15, b"Ada"]
    sealed = make_column_sealer(spec)(values, draw_row_keys(KEY, 3), [slots] * 3)
    assert sealed == [alone(value, draw_record(KEY), slots) for value in values]


def test_another_tenants_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="another tenant"):
        make_column_sealer(SPEC)([b"x"], draw_row_keys(replace(KEY, tenant="b"), 1), [b""])


def test_slots_are_as_many_for_each_value_and_values_as_rows() -> None:
    seal = make_column_sealer(SPEC)
    for values, slots in (([b"x", b"y"], [b"", bytes(16)]), ([b"x"], [b"", b""]), ([b"x", b"y", b"z"], [b""] * 3)):
        with pytest.raises(ValueError, match=r"slots|zip\(\)"):
            seal(values, draw_row_keys(KEY, 2), slots)
    with pytest.raises(ValueError, match="16 bytes"):
        seal([b"x", b"y"], draw_row_keys(KEY, 2), [b"short"] * 2)


def test_nothing_is_drawn_from_a_key_that_was_overwritten() -> None:
    key = KEY.kept()
    wipe(key.secret)
    with pytest.raises(ValueError, match="32 bytes"):
        draw_row_keys(key, 2)
