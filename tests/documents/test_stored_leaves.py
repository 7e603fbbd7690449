"""The sealed leaves of a stored document."""

from phiproxy.crypto.envelope import build_header
from phiproxy.documents.sealed_leaves import leaf_of
from phiproxy.documents.stored_leaves import stored_leaves, with_leaves
from phiproxy.types.json_types import Value


def envelope(number: int) -> bytes:
    return build_header(5, number, b"", padded=False, field=True) + bytes([number]) * 50


DOCUMENT: Value = {
    "a": leaf_of(envelope(1)),
    "b": [{"c": leaf_of(envelope(2))}, leaf_of(envelope(3)), None, b"1", True],
    "plain": "phi1:f55001 is only a text",
}


def test_each_with_its_path() -> None:
    assert list(stored_leaves(DOCUMENT)) == [
        (("a",), envelope(1)),
        (("b", None, "c"), envelope(2)),
        (("b", None), envelope(3)),
    ]


def test_others_in_their_place() -> None:
    new = with_leaves(DOCUMENT, {envelope(2): envelope(9)})
    assert isinstance(new, dict)
    assert new["b"] == [{"c": leaf_of(envelope(9))}, leaf_of(envelope(3)), None, b"1", True]
    assert {**new, "b": None} == {**DOCUMENT, "b": None}  # type: ignore[dict-item]
    assert with_leaves(DOCUMENT, {}) == DOCUMENT
