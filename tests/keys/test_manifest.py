"""Rows, manifests and the counter under the registry key: what is one and what is not, and their bytes."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import NotAuthentic
from phiproxy.keys.manifest import Counter, Manifest, RegistryKey, Row, parse_label, row_text, scope_group

SECRET = bytes(range(32))
KEY = RegistryKey(SECRET, "clinic")
TEXTS = st.text(max_size=6)
ROWS = st.builds(
    Row,
    st.sampled_from(["slot", "identity"]),
    st.tuples(TEXTS, TEXTS),
    st.tuples(st.none() | TEXTS, st.none() | TEXTS),
)


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def expanded(label: bytes) -> bytes:
    """HKDF-Expand with SHA-256, one block (RFC 5869)."""
    return hmac.digest(SECRET, framed(label, b"clinic") + b"\x01", hashlib.sha256)


def test_the_bytes_are_those_of_docs_registry() -> None:
    row = Row("slot", ("2", "0"), ("right(@,4)", "1", None, "1", "active"))
    fields = (b"\x01right(@,4)", b"\x011", b"\x00", b"\x011", b"\x01active")
    mac = hmac.digest(expanded(b"phi/registry/row/v1"), framed(b"slot", b"2", b"0", *fields), hashlib.sha256)[:16]
    assert KEY.row_mac(row) == mac
    manifest = Manifest("layout", 7, {row.label: mac})
    assert manifest.encode() == framed(framed(b"slot", b"2", b"0"), mac)
    expected = hmac.digest(expanded(b"phi/registry/manifest/v1"), framed(b"layout", b"7", manifest.encode()), hashlib.sha256)
    assert KEY.manifest_mac(manifest) == expected
    counter = Counter(9, {"layout": 7, "keys 3": 9})
    groups = framed(b"keys 3", b"9", b"layout", b"7")
    assert counter.encode() == groups
    assert KEY.counter_mac(counter) == hmac.digest(expanded(b"phi/registry/counter/v1"), framed(b"9", groups), hashlib.sha256)
    assert KEY.anchor == "reg1-" + expanded(b"phi/registry/anchor/v1").hex()
    assert scope_group("d:mrn", "") == f"keys {hashlib.sha256(framed(b'd:mrn', b'')).digest()[0] % 64}"


def test_nothing_tells_the_key() -> None:
    assert SECRET.hex() not in repr(KEY) + KEY.anchor + repr(vars(KEY))
    assert RegistryKey(SECRET, "other").anchor != KEY.anchor


@given(ROWS, ROWS)
def test_two_rows_have_one_mac_only_if_they_are_one(one: Row, other: Row) -> None:
    assert (KEY.row_mac(one) == KEY.row_mac(other)) is (one == other)
    assert (one.label == other.label) is (one[:2] == other[:2])
    assert parse_label(one.label) == (one.table, *one.key)


@given(st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(min_size=16, max_size=16), max_size=5), st.integers(1, 1 << 60))
def test_a_manifest_reads_back_and_nothing_else_does(macs: dict[bytes, bytes], at: int) -> None:
    made = Manifest("layout", at, macs)
    mac = KEY.manifest_mac(made)
    assert KEY.open_manifest("layout", at, made.encode(), mac) == made
    for group, value, entries in (
        ("keys 1", at, made.encode()),
        ("layout", at + 1, made.encode()),
        ("layout", at, made.encode() + framed(b"x", b"y")),
    ):
        with pytest.raises(NotAuthentic):
            KEY.open_manifest(group, value, entries, mac)
    with pytest.raises(NotAuthentic):
        RegistryKey(SECRET, "other").open_manifest("layout", at, made.encode(), mac)


@given(st.dictionaries(TEXTS, st.integers(1, 1 << 60), max_size=5), st.integers(1, 1 << 60))
def test_a_counter_reads_back_and_nothing_else_does(groups: dict[str, int], value: int) -> None:
    made = Counter(value, groups)
    mac = KEY.counter_mac(made)
    assert KEY.open_counter(value, made.encode(), mac) == made
    for other, encoded in ((value + 1, made.encode()), (value, made.encode() + framed(b"x", b"1"))):
        with pytest.raises(NotAuthentic):
            KEY.open_counter(other, encoded, mac)


def test_rows_are_named_for_people() -> None:
    assert row_text("column_name", ("public", "patients", "ssn")) == "column_name ('public', 'patients', 'ssn')"
    assert Row("slot", ("2", "0"), ()).text == "slot (2, 0)"
