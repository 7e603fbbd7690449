"""How a sealed value stands inside a document: the JSON string ``phi1:`` ‖ hex of the header ‖ ``:`` ‖ base64url of the rest.

The header, with its tags, is in hexadecimal digits of fixed width, so that a tag is a substring of the text at an offset that does
not depend on the value (spec/stored-format 2.5).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Final

from phiproxy.crypto.envelope import FIXED_HEADER, LONGEST_HEAD, SLOT_LENGTH
from phiproxy.errors import SealError
from phiproxy.long_values import cut, joined

PREFIX: Final = "phi1:"
FIRST_TAG: Final = len(PREFIX) + 2 * FIXED_HEADER + 1
"""Where the tag of slot 0 begins in the text, from 1, as SQL counts; each has 32 characters."""
TAG_LENGTH: Final = 2 * SLOT_LENGTH
LOOKS_SEALED: Final = b"phi1:f55001"
"""What each sealed leaf begins with."""

# Of a longer one so much is spelled at once: a multiple of three bytes, and of four characters.
_PIECE: Final = 3 * 64 * 1024

_NOT_SEALED = "a field of a stored document is not a sealed value"


def leaf_of(envelope: bytes) -> str:
    """Return the text of an envelope inside a document."""
    end = FIXED_HEADER + SLOT_LENGTH * envelope[FIXED_HEADER - 1]
    head = f"{PREFIX}{envelope[:end].hex()}:"
    if len(envelope) <= _PIECE:
        return head + urlsafe_b64encode(envelope[end:]).decode("ascii").rstrip("=")
    pieces = [urlsafe_b64encode(piece).decode("ascii") for piece in cut(envelope, end, len(envelope), _PIECE)]
    return joined([head, *pieces[:-1], pieces[-1].rstrip("=")])


def envelope_of(leaf: object) -> bytes:
    """Return the envelope that a value of a document is the text of; SealError (XX001) for anything else."""
    if not isinstance(leaf, str) or not leaf.startswith(PREFIX):
        raise SealError(_NOT_SEALED)
    colon = leaf.find(":", len(PREFIX), len(PREFIX) + 2 * LONGEST_HEAD)
    if colon < 0:
        raise SealError(_NOT_SEALED)
    padding = "=" * (-(len(leaf) - colon - 1) % 4)
    try:
        header = bytes.fromhex(leaf[len(PREFIX) : colon])
        if len(leaf) <= _PIECE:
            data = header + urlsafe_b64decode(leaf[colon + 1 :] + padding)
        else:
            pieces = (leaf[at : at + _PIECE] for at in range(colon + 1, len(leaf), _PIECE))
            data = b"".join([header, *(urlsafe_b64decode(p if len(p) == _PIECE else p + padding) for p in pieces)])
    except (ValueError, Base64Error):
        raise SealError(_NOT_SEALED) from None
    # One spelling each: what another spelling says is not what the tags were read from.
    if len(data) < FIXED_HEADER or leaf_of(data) != leaf:
        raise SealError(_NOT_SEALED)
    return data


def looks_sealed(value: object) -> bool:
    """Tell whether a JSON value may be the text of an envelope."""
    return isinstance(value, str) and value.startswith(LOOKS_SEALED.decode())
