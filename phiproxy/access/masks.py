"""Masks at work: a value in its canonical form (``types.codec``) to what is shown of it, which is a value of the same type.

What is hidden of a text becomes ``*``, so of that nothing is shown but its length. NULL is NULL under every mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from phiproxy.access.shows import Show
from phiproxy.errors import ValueRefused
from phiproxy.types.casts import on_the_clock, zoned
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from phiproxy.types.styles import Styles

Mask = Callable[[bytes], bytes | None]
"""Takes a value in its canonical form; None is NULL."""
Digest = Callable[[bytes], bytes]
"""HMAC-SHA-256 under the key of a role, over the equality form of a value."""

_TEXTS: Final = frozenset({"text", "varchar", "bpchar", "citext"})
_MOMENTS: Final = frozenset({"date", "timestamp", "timestamptz"})
_COUNTS: Final = frozenset({"int2", "int4", "int8"})
_FAMILIES: Final = {
    "first": _TEXTS, "last": _TEXTS, "partial": _TEXTS, "zip3": _TEXTS, "email": _TEXTS, "pseudonym": _TEXTS | {"uuid"},
    "year": _MOMENTS, "month": _MOMENTS, "age90": _MOMENTS | _COUNTS,
}  # fmt: skip
# 64 bits, in hexadecimal: of fewer two of a million values would often be the same.
_MIN_PSEUDONYM: Final = 16
_MAX_PSEUDONYM: Final = 32
_HIDDEN_EMAIL: Final = "***"
_MIN_LENGTH: Final = {"zip3": 3, "email": 8, "pseudonym": _MIN_PSEUDONYM}
_OLDEST_SHOWN: Final = 90
_ZIP = re.compile(r"\s*([0-9]{3})")
# What begins so has at most 20 000 inhabitants by the census of 2000 or of 2010 (45 CFR 164.514(b)(2)(i)(B)).
_SMALL_AREAS: Final = frozenset(
    {
        "036", "059", "063", "102", "203", "205", "369", "556", "692", "790", "821", "823", "830", "831", "878", "879", "884",
        "890", "893",
    }
)  # fmt: skip


def complaint(show: Show, declared: DeclaredType) -> str | None:
    """Say why a mask is none for a type: what it shows must be a value of that, since the client is told of the type."""
    if show.kind in ("open", "deny", "null"):
        return None
    own = declared.underlying
    if show.kind == "fixed":
        try:
            _fixed(show, declared)
        except ValueRefused as refused:
            return f"{show} is no value of {sql_name(declared)}: {refused.message}"
        return None
    if own.family not in _FAMILIES[show.kind]:
        return f"{show} masks {', '.join(sorted(_FAMILIES[show.kind]))}, and this is {sql_name(declared)}"
    limit, least = _limit(own), _MIN_LENGTH.get(show.kind, 0)
    if limit is not None and limit < least:
        return f"what {show} shows has up to {least} characters, and this is {sql_name(declared)}"
    return None


def mask(show: Show, declared: DeclaredType, digest: Digest | None = None, styles: Styles = Styles.CANONICAL) -> Mask:
    """Return the function of a mask over values of a type; ``digest`` is needed by a pseudonym, and by no other.

    A ``timestamptz`` is cut by the calendar of UTC, and shown as the beginning of that year or month in the session's time zone
    (``styles``): were it cut there, who sets one time zone after the other would see when it becomes another month.
    """
    own = declared.underlying
    if show.kind == "null":
        return lambda _value: None
    if show.kind == "fixed":
        text = _fixed(show, declared)
        return lambda _value: text
    if show.kind == "age90" and own.family in _COUNTS:
        return lambda value: b"%d" % min(int(value), _OLDEST_SHOWN)
    if own.family in _MOMENTS:
        cut = _cut(show.kind)
        return _in_zone(cut, styles) if own.family == "timestamptz" else cut
    if show.kind == "pseudonym":
        assert digest is not None
        return _pseudonym(own, digest)
    write = _of_text(show)
    limit, pads = _limit(own), own.family == "bpchar"

    def masked(value: bytes) -> bytes:
        text = value.decode("utf-8")
        shown = write(text.rstrip(" ") if pads else text)[:limit]
        return (shown.ljust(limit) if pads and limit is not None else shown).encode("utf-8")

    return masked


def _limit(own: DeclaredType) -> int | None:
    """Return how many characters a value may have, or None."""
    return own.typmod - 4 if own.family in ("varchar", "bpchar") and own.typmod >= 4 else None


def _fixed(show: Show, declared: DeclaredType) -> bytes:
    """Return the text as the type has it; ValueRefused where it is none of its values."""
    own = codec(declared)
    return own.assign(own.from_text(show.text.encode("utf-8"), Styles.CANONICAL), declared.underlying.typmod)


def _of_text(show: Show) -> Callable[[str], str]:
    if show.kind == "zip3":
        return _zip3
    if show.kind == "email":
        return _email
    left, right = show.left, show.right

    def partial(text: str) -> str:
        hidden = len(text) - left - right
        if hidden <= 0:  # it would be shown whole
            return "*" * len(text)
        return text[:left] + "*" * hidden + text[left + hidden :]

    return partial


def _zip3(text: str) -> str:
    """Return the first three digits of a ZIP code, 000 where few live or it is none."""
    digits = _ZIP.match(text)
    return digits[1] if digits is not None and digits[1] not in _SMALL_AREAS else "000"


def _email(text: str) -> str:
    """Return ``j***@***`` for ``jane@example.org``: of the domain nothing, since it may be a person's own."""
    name, at, _ = text.rpartition("@")
    return f"{name[0]}{_HIDDEN_EMAIL}@{_HIDDEN_EMAIL}" if at and len(name) > 1 else _HIDDEN_EMAIL


def _cut(kind: str) -> Callable[[bytes], bytes]:
    """Return what cuts a date or timestamp to its year or month; ``age90`` shows 90 years ago for what is before."""

    def cut(value: bytes) -> bytes:
        day, _, rest = value.partition(b" ")
        if b"-" not in day[1:]:
            return value  # infinity and -infinity are nobody's
        year, month, _ = day.split(b"-")
        era = b" BC" if value.endswith(b"BC") else b""
        if kind == "age90":
            oldest = datetime.now(UTC).year - _OLDEST_SHOWN
            if era or int(year) < oldest:
                year, era = b"%04d" % oldest, b""
        if not rest.removesuffix(b"BC"):
            return b"%b-%b-01%b" % (year, month if kind == "month" else b"01", era)
        return b"%b-%b-01 00:00:00%b" % (year, month if kind == "month" else b"01", era)

    return cut


def _in_zone(cut: Callable[[bytes], bytes], styles: Styles) -> Mask:
    """Return what cuts a timestamptz by the clock of UTC, and gives when that is by the session's."""
    return lambda value: value if value.endswith(b"infinity") else zoned(cut(on_the_clock(value, Styles.CANONICAL)), styles)


def _pseudonym(own: DeclaredType, digest: Digest) -> Mask:
    if own.family == "uuid":

        def as_uuid(value: bytes) -> bytes:
            text = digest(value).hex()[:32]
            # RFC 9562, version 8: bits of one's own.
            return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}".encode()

        return as_uuid
    limit, pads = _limit(own), own.family == "bpchar"
    length = _MAX_PSEUDONYM if limit is None else min(limit, _MAX_PSEUDONYM)

    def pseudonym(value: bytes) -> bytes:
        text = digest(value).hex()[:length].encode()
        return text.ljust(limit) if pads and limit is not None else text

    return pseudonym
