"""text, varchar(n), char(n), citext and enums: the canonical form is the text itself."""

from collections.abc import Callable

from phiproxy.errors import StringTooLong, ValueRefused
from phiproxy.types.codec import Codec, as_is, as_text, unlimited
from phiproxy.types.styles import Styles
from phiproxy.wire.bytea_and_text import assign_varchar, check_text


def _from_text(field: bytes, styles: Styles) -> bytes:
    return check_text(field)


def _assign_char(canonical: bytes, typmod: int) -> bytes:
    """Pad with blanks to n characters, or cut blanks in excess (manual 8.3)."""
    if typmod < 4:
        return canonical
    limit = typmod - 4
    text = canonical.decode("utf-8")
    if len(text) > limit and text[limit:].strip(" "):
        raise StringTooLong(f"value too long for type character({limit})")
    return text[:limit].ljust(limit).encode("utf-8")


TEXT = Codec(_from_text, check_text, as_text, as_is, unlimited, as_is)
VARCHAR = Codec(
    _from_text, check_text, as_text, as_is, lambda text, typmod: text if typmod < 4 else assign_varchar(text, typmod - 4), as_is
)
CHAR = Codec(_from_text, check_text, as_text, as_is, _assign_char, lambda canonical: canonical.rstrip(b" "))


def citext(lower: Callable[[bytes], bytes] | None) -> Codec:
    """Return citext's codec; ``lower`` is the server's own ``lower`` in the database's default collation."""
    return Codec(_from_text, check_text, as_text, as_is, unlimited, lower or _no_form)


def _no_form(canonical: bytes) -> bytes:
    raise AssertionError("citext has no equality form where upper and lower case are not known")


def enum(name: str, labels: tuple[str, ...]) -> Codec:
    """Return the codec of an enum: its labels, and nothing else."""
    values = frozenset(label.encode("utf-8") for label in labels)
    message = f"invalid input value for enum {name}"

    def from_binary(field: bytes) -> bytes:
        if field not in values:
            raise ValueRefused(message)
        return field

    return Codec(lambda field, _styles: from_binary(field), from_binary, as_text, as_is, unlimited, as_is)
