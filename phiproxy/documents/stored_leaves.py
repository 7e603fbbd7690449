"""The sealed leaves of a stored document, with nothing opened: which they are, under which data key, and at which path."""

from collections.abc import Iterator, Mapping

from phiproxy.documents.field_paths import ELEMENTS, Path
from phiproxy.documents.sealed_leaves import envelope_of, leaf_of, looks_sealed
from phiproxy.errors import SealError
from phiproxy.types.json_types import Value

Leaves = Iterator[tuple[Path, bytes]]


def stored_leaves(value: Value, path: Path = ()) -> Leaves:
    """Yield the path and envelope of each string in a document that is the text of one, in any place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from stored_leaves(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from stored_leaves(item, (*path, ELEMENTS))
    elif looks_sealed(value):
        try:
            yield path, envelope_of(value)
        except SealError:
            return  # what an application has written to a place in clear


def with_leaves(value: Value, new: Mapping[bytes, bytes]) -> Value:
    """Return a document in which envelopes are others, by those that are there now."""
    if isinstance(value, dict):
        return {key: with_leaves(item, new) for key, item in value.items()}
    if isinstance(value, list):
        return [with_leaves(item, new) for item in value]
    if not looks_sealed(value):
        return value
    try:
        envelope = envelope_of(value)
    except SealError:
        return value
    return leaf_of(new[envelope]) if envelope in new else value
