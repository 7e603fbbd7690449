"""How a sealed value stands inside a document: the JSON string ``phi1:`` ‖ hex of the header ‖ ``:`` ‖ base64url of the rest.

The header, with its tags, is in hexadecimal digits of fixed width, so that a tag is a substring of the text at an offset that does
not depend on the value (spec/stored-format 2.5).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Final

from phiproxy.crypto.envelope import FIXED_HEADER, SLOT_LENGTH
from phiproxy.errors import SealError

PREFIX: Final = "phi1:"
FIRST_TAG: Final = len(PREFIX) + 2 * FIXED_HEADER + 1
"""Where the tag of slot 0 begins in the text, from 1, as SQL counts; each has 32 characters."""
TAG_LENGTH: Final = 2 * SLOT_LENGTH
LOOKS_SEALED: Final = b"phi1:f55001"
"""What each sealed leaf begins with."""

_NOT_SEALED = "a field of a stored document is not a sealed value"


def leaf_of(envelope: bytes) -> str:
    """Return the text of an envelope inside a document."""
    end = FIXED_HEADER + SLOT_LENGTH * envelope[FIXED_HEADER - 1]
    rest = urlsafe_b64encode(envelope[end:]).decode("ascii").rstrip("=")
    return f"{PREFIX}{envelope[:end].hex()}:{rest}"


def envelope_of(leaf: object) -> bytes:
    """Return the envelope that a value of a document is the text of; SealError (XX001) for anything else."""
    if not isinstance(leaf, str) or not leaf.startswith(PREFIX):
        raise SealError(_NOT_SEALED)
    header, colon, rest = leaf[len(PREFIX) :].partition(":")
    try:
        data = bytes.fromhex(header) + urlsafe_b64decode(rest + "=" * (-len(rest) % 4))
    except (ValueError, Base64Error):
        raise SealError(_NOT_SEALED) from None
    # One spelling each: what another spelling says is not what the tags were read from.
    if not colon or len(data) < FIXED_HEADER or leaf_of(data) != leaf:
        raise SealError(_NOT_SEALED)
    return data


def looks_sealed(value: object) -> bool:
    """Tell whether a JSON value may be the text of an envelope."""
    return isinstance(value, str) and value.startswith(LOOKS_SEALED.decode())
