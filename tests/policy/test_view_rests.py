"""What of a view over expressions is sealed, and what it is called on the server."""

from __future__ import annotations

import pytest

from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.view_rests import (
    Input,
    ViewRest,
    client_columns,
    digest_of,
    input_name,
    is_computed,
    is_inner,
    read_rest,
    sealed_in,
    type_key,
)
from phiproxy.types.declared import DeclaredType

REST = ViewRest(
    ("SELECT 'ä' FROM ", " AS s"),
    (Input(0, "", "int4", -1), Input("phi_view_1", "d:x", "s.mood", -1)),
    (True, False),
    "some",
    ("",),
    (digest_of(b"\xf5\x50"),),
)


def columns(*names: str) -> Relation:
    return Relation(1, "public", "v", "v", tuple(CatalogColumn(name, n, 25, -1) for n, name in enumerate(names, start=1)))


def test_it_is_read_as_it_was_written() -> None:
    assert read_rest(REST.written()) == REST


def test_a_rest_that_names_others_by_all_of_their_bytes_is_read_as_by_their_digests() -> None:
    """So they were sealed before."""
    written = REST.written().replace(digest_of(b"\xf5\x50").hex().encode(), b"f550")
    assert written != REST.written()
    assert read_rest(written) == REST


@pytest.mark.parametrize("said", [b"{}", b"[]", b"not JSON", REST.written().replace(b'"version": 1', b'"version": 2')])
def test_anything_else_is_none(said: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_rest(said)


def test_the_source_stands_in_each_gap() -> None:
    assert REST.around((b"(SELECT FROM ", b" AS s)")) == (b"SELECT '\xc3\xa4' FROM (SELECT FROM ", b" AS s) AS s")
    assert REST.around((b"(SELECT)",)) == (b"SELECT '\xc3\xa4' FROM (SELECT) AS s",)


def test_inner_columns_are_those_of_a_view_with_a_sealed_rest() -> None:
    computed, other = columns("id", "phi_view_0", "phi_view_1", "next"), columns("id", "phi_view_1")
    assert [c.name for c in client_columns(computed)] == ["id", "next"]
    assert [c.name for c in client_columns(other)] == ["id", "phi_view_1"]
    assert (is_computed(computed), is_computed(other)) == (True, False)
    assert is_inner(input_name(3))


def test_the_sealed_rest_is_the_column_of_that_name() -> None:
    stored = " SELECT '\\xf5500101ff'::bytea AS other, '\\xf5500101aa'::bytea AS phi_view_0"
    assert sealed_in(stored) == bytes.fromhex("f5500101aa")
    assert sealed_in(stored.replace("phi_view_0", "phi_view_01")) is None


def test_a_type_is_told_without_its_oid() -> None:
    own = DeclaredType("mood", 5, schema="s")
    assert type_key(own) == type_key(DeclaredType("mood", 6, schema="s")) == "s.mood"
    assert Input("phi_view_1", "d:x", "s.mood", -1).fits("d:x", own, -1)
    assert not Input("phi_view_1", "d:x", "s.mood", -1).fits("d:y", own, -1)
