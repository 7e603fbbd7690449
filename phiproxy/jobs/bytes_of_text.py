"""Texts of a database in SQL_ASCII, whose bytes may be anything: they come and go as they are, so that each is judged by itself.

The server would refuse a whole batch for one that is not UTF-8, and not say which row it is in. Bytes that are not UTF-8 are
surrogates in what the job has of a text.
"""

from collections.abc import Iterable

from phiproxy.jobs.binary_arrays import ByteaArray
from phiproxy.jobs.relations import Connection


def has_no_encoding(conn: Connection) -> bool:
    """Tell whether the texts of a connection's database are bytes of no encoding."""
    return conn.info.parameter_status("server_encoding") == "SQL_ASCII"


def to_bytes(expression: str) -> str:
    """Return the SQL expression for the bytes of a text."""
    return f"pg_catalog.convert_to({expression}, 'SQL_ASCII')"


def from_bytes(expression: str) -> str:
    """Return the SQL expression for the text of these bytes."""
    return f"pg_catalog.convert_from({expression}, 'SQL_ASCII')"


def text_of(value: bytes | None) -> str | None:
    """Return the text of bytes that the server has sent."""
    return None if value is None else value.decode(errors="surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return the bytes that a text has on the server."""
    return text.encode(errors="surrogateescape")


def array_of(texts: Iterable[str | None]) -> ByteaArray:
    """Return texts as a parameter."""
    return ByteaArray([None if text is None else bytes_of(text) for text in texts])


def is_utf8(text: str) -> bool:
    """Tell whether a text has none but characters."""
    return not any("\udc80" <= character <= "\udcff" for character in text)


def shown(text: str) -> str:
    r"""Return a text to be shown: ``caf\xe9``, as it is written in ``E'…'``."""
    return bytes_of(text).decode(errors="backslashreplace")
