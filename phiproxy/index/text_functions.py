"""Functions over text as PostgreSQL has them (manual 9.4), on UTF-8 bytes: indexes and formulas are computed by the same."""


def left(value: bytes, count: int) -> bytes:
    """Return the first ``count`` characters; of a negative count, all but the last ones."""
    return value.decode()[:count].encode()


def right(value: bytes, count: int) -> bytes:
    """Return the last ``count`` characters; of a negative count, all but the first ones."""
    text = value.decode()
    return text[max(len(text) - count, 0) if count >= 0 else -count :].encode()


def substring(value: bytes, start: int, count: int | None = None) -> bytes:
    """Return ``count`` characters from the place ``start`` on, which may lie before the first, at 1."""
    end = None if count is None else max(start + count - 1, 0)
    return value.decode()[max(start - 1, 0) : end].encode()


def btrim(value: bytes, characters: bytes = b" ") -> bytes:
    """Cut the longest runs of these characters off both ends."""
    return rtrim(ltrim(value, characters), characters)


def ltrim(value: bytes, characters: bytes = b" ") -> bytes:
    """Cut the longest run of these characters off the beginning."""
    return value.decode().lstrip(characters.decode()).encode() if characters else value


def rtrim(value: bytes, characters: bytes = b" ") -> bytes:
    """Cut the longest run of these characters off the end."""
    return value.decode().rstrip(characters.decode()).encode() if characters else value


def length(value: bytes) -> bytes:
    """Return the number of characters."""
    return b"%d" % len(value.decode())


def replace(value: bytes, old: bytes, new: bytes) -> bytes:
    """Put ``new`` for every ``old``; of nothing nothing is replaced."""
    return value.decode().replace(old.decode(), new.decode()).encode() if old else value


def translate(value: bytes, characters: bytes, others: bytes) -> bytes:
    """Put for each of the characters the other at its place, or nothing where there is none; the first of equal ones decides."""
    old, new = characters.decode(), others.decode()
    table = {ord(c): new[offset] if offset < len(new) else None for offset, c in reversed(list(enumerate(old)))}
    return value.decode().translate(table).encode()


def ascii_digits(value: bytes) -> bytes:
    """Leave the digits 0 to 9 only."""
    return bytes(c for c in value if 48 <= c <= 57)
