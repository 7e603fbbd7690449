"""text, varchar(n), char(n), citext and enums: the canonical form is the text itself."""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.errors import StringTooLong, ValueRefused
from phiproxy.types.codec import Codec, as_is, as_text, unlimited
from phiproxy.types.styles import Styles
from phiproxy.wire.values import assign_varchar, check_text


def _from_text(field: bytes, styles: Styles) -> bytes:
    return check_text(field)


def _assign_varchar(canonical: bytes, typmod: int) -> bytes:
    return canonical if typmod < 4 else assign_varchar(canonical, typmod - 4)


def _assign_char(canonical: bytes, typmod: int) -> bytes:
    """Pad with blanks to n characters, or cut blanks in excess (manual 8.3)."""
    if typmod < 4:
        return canonical
    limit = typmod - 4
    text = canonical.decode("utf-8")
    if len(text) > limit and text[limit:].strip(" "):
        raise StringTooLong(f"value too long for type character({limit})")
    return text[:limit].ljust(limit).encode("utf-8")


def _without_blanks(canonical: bytes) -> bytes:
    return canonical.rstrip(b" ")


TEXT = Codec(_from_text, check_text, as_text, as_is, unlimited, as_is)
VARCHAR = Codec(_from_text, check_text, as_text, as_is, _assign_varchar, as_is)
CHAR = Codec(_from_text, check_text, as_text, as_is, _assign_char, _without_blanks)


def citext(lower: Callable[[bytes], bytes] | None) -> Codec:
    """Return citext's codec; ``lower`` is the server's own ``lower`` in the database's default collation."""
    return Codec(_from_text, check_text, as_text, as_is, unlimited, lower or _no_form)


def _no_form(canonical: bytes) -> bytes:
    raise AssertionError("citext has no equality form where upper and lower case are not known")


def enum(name: str, labels: tuple[str, ...]) -> Codec:
    """Return the codec of an enum: its labels, and nothing else."""
    known = frozenset(label.encode("utf-8") for label in labels)
    message = f"invalid input value for enum {name}"

    def from_binary(field: bytes) -> bytes:
        if field not in known:
            raise ValueRefused(message)
        return field

    def from_text(field: bytes, styles: Styles) -> bytes:
        return from_binary(field)

    return Codec(from_text, from_binary, as_text, as_is, unlimited, as_is)
