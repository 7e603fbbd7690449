"""Which key a value names, and that a padded one stays as long as it is where no policy says how."""

from __future__ import annotations

import pytest

from phiproxy.crypto.envelope import MAX_PAD
from phiproxy.errors import SealError
from phiproxy.jobs.sealed_values import _pad_of, key_id_of


def envelope(length: int, *, padded: bool) -> bytes:
    return b"\xf5\x50\x01\x01" + bytes([padded]) + b"\x5f\xc3\xa9\x11" + b"\x00\x01" + b"\x00" + bytes(28 + length + 16)


def test_the_data_key_that_a_value_names() -> None:
    assert key_id_of(envelope(5, padded=False)) == 0x5FC3A911
    for wrong in (b"", b"123-45-6789 is none", b"\xf5\x50\x02" + bytes(60)):
        with pytest.raises(SealError):
            key_id_of(wrong)


@pytest.mark.parametrize(("length", "pad"), [(64, 64), (128, 128), (MAX_PAD, MAX_PAD), (2 * MAX_PAD, MAX_PAD), (65_537 * 2, 2)])
def test_a_value_stays_as_long_as_it_is(length: int, pad: int) -> None:
    assert _pad_of(envelope(length, padded=True)) == pad
    assert _pad_of(envelope(length, padded=False)) is None
