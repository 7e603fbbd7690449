"""Rows: what a MAC covers, and what does not come out of a row that somebody changed."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.keyring import DataKey, KeyState
from phiproxy.keys.key_rows import DataKeyRow, RootRow, is_authentic, new_data_key, registry_mac, unwrap_data_key

SECRET = bytes(range(32))
ROOT = RootRow(3, "d:mrn", "acme", "data", 1, "active", ())


@pytest.fixture
def row() -> DataKeyRow:
    return new_data_key(SECRET, 3, 7, 1000)


def with_state(row: DataKeyRow, state: KeyState) -> DataKeyRow:
    return replace(row, state=state, mac=registry_mac(SECRET, row, state))


def test_a_new_row_opens_to_32_random_bytes(row: DataKeyRow) -> None:
    key, other = unwrap_data_key(SECRET, row, ROOT), unwrap_data_key(SECRET, new_data_key(SECRET, 3, 8, 1000), ROOT)
    assert isinstance(key, DataKey)
    assert isinstance(other, DataKey)
    assert (key.id, key.scope, key.tenant, key.root_id, key.state, len(key.secret)) == (
        row.id,
        "d:mrn",
        "acme",
        3,
        "active",
        32,
    )
    assert key.secret != other.secret
    assert len(row.wrapped) == 40
    assert 0 < row.id < 2**32


def test_the_id_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes(4), b"w" * 32, bytes(4), b"\x00\x00\x00\x09", b"w" * 32])

    def urandom(n: int) -> bytes:
        return next(x for x in drawn if len(x) == n)

    monkeypatch.setattr("phiproxy.keys.key_rows.os.urandom", urandom)
    assert new_data_key(SECRET, 3, 1, 10).id == 9


def test_the_mac_is_what_the_specification_says(row: DataKeyRow) -> None:
    key = hmac.digest(SECRET, b"\x00\x00\x00\x0fphi/registry/v1\x01", hashlib.sha256)
    parts = [b"%d" % row.id, b"3", b"7", b"active", b"1000", row.wrapped]
    message = b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    assert row.mac == hmac.digest(key, message, hashlib.sha256)


@pytest.mark.parametrize(
    "change",
    [{"id": 1}, {"root_id": 4}, {"generation": 8}, {"state": "decrypt_only"}, {"max_uses": 10**9}, {"wrapped": bytes(40)}],
)
def test_a_changed_row_is_not_authentic(row: DataKeyRow, change: dict[str, object]) -> None:
    changed = replace(row, **change)  # type: ignore[arg-type]
    assert not is_authentic(SECRET, changed)
    root = replace(ROOT, id=changed.root_id)
    assert unwrap_data_key(SECRET, changed, root) == "not authentic in the registry"


def test_use_and_age_are_not_covered(row: DataKeyRow) -> None:
    assert is_authentic(SECRET, replace(row, used=999, age=1e9))


@given(st.integers(0, 255), st.integers(1, 255))
def test_another_mac_or_root_does_not_do(position: int, change: int) -> None:
    row = new_data_key(SECRET, 3, 7, 1000)
    mac = bytearray(row.mac)
    mac[position % 32] ^= change
    assert not is_authentic(SECRET, replace(row, mac=bytes(mac)))
    assert not is_authentic(b"\xff" * 32, row)
    assert not is_authentic(SECRET, replace(row, mac=b""))


@pytest.mark.parametrize(("state", "refusal"), [("retired", "retired"), ("destroyed", "destroyed")])
def test_ended_rows_and_roots_give_no_key(row: DataKeyRow, state: KeyState, refusal: str) -> None:
    assert unwrap_data_key(SECRET, with_state(row, state), ROOT) == refusal
    assert unwrap_data_key(SECRET, row, replace(ROOT, state=state)) == refusal


def test_a_compromised_root_compromises_its_keys(row: DataKeyRow) -> None:
    key = unwrap_data_key(SECRET, row, replace(ROOT, state="compromised"))
    assert isinstance(key, DataKey)
    assert key.state == "compromised"


def test_a_root_of_another_purpose_wraps_no_data_keys(row: DataKeyRow) -> None:
    assert unwrap_data_key(SECRET, row, replace(ROOT, purpose="index")) == "not authentic in the registry"


def test_a_wrap_that_is_none_is_not_a_key(row: DataKeyRow) -> None:
    for wrapped in (b"", b"x" * 39, b"x" * 40):
        bare = replace(row, wrapped=wrapped)
        signed = replace(bare, mac=registry_mac(SECRET, bare, "active"))
        assert unwrap_data_key(SECRET, signed, ROOT) == "not authentic in the registry"


def test_reprs_show_no_wrapped_key(row: DataKeyRow) -> None:
    assert repr(row.wrapped) not in repr(row)
    assert "blob" not in repr(ROOT)
