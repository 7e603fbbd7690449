"""What the tests of COPY's codecs share: data in any chunks, and what a codec makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from phiproxy import long_values
from phiproxy.wire import copy_binary, copy_csv, copy_text
from phiproxy.wire.copy_rows import Codec, CopyDataError, Row

LIMIT = 1 << 20
Values = list[list[bytes | None]]

# What the formats have to escape, and what surrounds it.
texts = st.text(st.sampled_from("ab\\.,;|\"'\n\r\t\b\vxN0é€ "), max_size=8).map(str.encode)
rows = st.lists(st.tuples(st.none() | texts, texts, st.none() | texts).map(list), min_size=1, max_size=6)


@contextmanager
def everything_is_long() -> Iterator[None]:
    """Have all that is taken in pieces where it is long taken in pieces of a few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (long_values, copy_text, copy_csv, copy_binary):
            patch.setattr(module, "LONG_VALUE", 2)
        for module in (long_values, copy_text):
            patch.setattr(module, "PIECE", 4)
        for module in (copy_text, copy_csv):
            patch.setattr(module, "SMALL_PIECE", 3)
        yield


def chunks(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """Yield data cut at some places."""
    places = sorted({c % (len(data) + 1) for c in cuts})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


def take(codec: Codec, pieces: Iterator[bytes]) -> tuple[list[Row], CopyDataError | None]:
    """Return all rows of a stream and the error that ended it."""
    found: list[Row] = []
    for piece in pieces:
        found += codec.feed(piece)
        if codec.error is not None:
            return found, codec.error
    found += codec.finish()
    return found, codec.error


def values(codec: Codec, found: Sequence[Row]) -> Values:
    """Return what the fields of rows mean."""
    return [[None if raw is None else codec.read(raw, i) for i, raw in enumerate(row)] for row in found]


def spelled(codec: Codec, wanted: Values, null: bytes | None) -> list[Row]:
    """Return rows as the server would spell them."""
    return [[null if value is None else codec.write(value, i) for i, value in enumerate(row)] for row in wanted]
