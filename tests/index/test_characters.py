"""Upper and lower case."""

import pytest

from phiproxy.index.characters import ASCII, UnknownCharacter


def test_ascii() -> None:
    assert ASCII.lower(b"Smith") == b"smith"
    assert ASCII.upper(b"Smith") == b"SMITH"
    for of in (ASCII.lower, ASCII.upper):
        with pytest.raises(UnknownCharacter):
            of("Ä".encode())
