"""Character sets of clients (manual 24.3.4, client_encoding): their texts to UTF-8 and back, exactly as the server converts them.

Those whose codec in Python agrees with the server's tables in every code point, which a test shows, and those of ``tabled`` and
``mapped``.
"""

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from phiproxy.errors import InvalidEncoding, UntranslatableCharacter
from phiproxy.long_values import LONG_VALUE, PIECE, cut, together
from phiproxy.wire import encoding_differences, encoding_tables
from phiproxy.wire.encoding_differences import CODECS, Table, malformed, unreadable, unwritable
from phiproxy.wire.encoding_tables import Map
from phiproxy.wire.oids import BUILTIN_TYPES, oids

# Types whose binary form is their text, so that the server converts it …
_TEXTS = ("char", "name", "text", "json", "xml", "unknown", "bpchar", "varchar")
_TEXT_TYPES = oids(*_TEXTS)
_JSONB = BUILTIN_TYPES["jsonb"].oid
_TEXT_ARRAYS = frozenset(BUILTIN_TYPES[name].array_oid for name in (*_TEXTS, "jsonb")) - {0}
# … and those that come from extensions or CREATE TYPE, of which enums and citext can be protected.
_FIRST_OF_USERS = 16384


@dataclass(frozen=True, slots=True)
class Encoding:
    """One of the server's character sets; ``codec`` is Python's name for it, where that has it."""

    name: str
    codec: str

    @property
    def of_database(self) -> "Encoding":
        """Return the encoding whose characters only it may have; of most databases that is UTF8, which has all."""
        return UTF8

    def to_utf8(self, text: bytes) -> bytes:
        """Return a text in UTF-8, a long one made in pieces; InvalidEncoding or UntranslatableCharacter as the server would say."""
        if text.isascii():
            return text
        if len(text) <= LONG_VALUE:
            return self._to_utf8(text)
        read = self.reader()
        return together([*(read(piece, False) for piece in cut(text, 0, len(text))), read(b"", True)])  # noqa: FBT003

    def from_utf8(self, text: bytes) -> bytes:
        """Return a text that is in UTF-8 in this encoding; UntranslatableCharacter when it has no such character."""
        if text.isascii():
            return text
        if len(text) <= LONG_VALUE:
            return self._from_utf8(text)
        return together([*map(self._from_utf8, _characters(text))])

    def _to_utf8(self, text: bytes) -> bytes:
        try:
            return text.decode(self.codec).encode("utf-8")
        except UnicodeDecodeError as error:
            raise self._unreadable(error) from None

    def _from_utf8(self, text: bytes) -> bytes:
        try:
            return text.decode("utf-8").encode(self.codec, _ERRORS)
        except UnicodeEncodeError:
            raise unwritable(self.name) from None

    def shown(self, text: bytes) -> bytes:
        """Return a text of the proxy's own as far as it can be said in this encoding."""
        return text if text.isascii() else text.decode("utf-8", "replace").encode(self.codec, "replace")

    def read(self, text: bytes) -> bytes:
        """Return a text of the server's in UTF-8, whatever is in it."""
        return text if text.isascii() else text.decode(self.codec, "replace").encode("utf-8")

    def reader(self) -> Callable[[bytes, bool], bytes]:
        """Return a function of (chunk, is it the last) to UTF-8: characters may be cut between chunks."""
        decode = codecs.getincrementaldecoder(self.codec)().decode

        def read(chunk: bytes, last: bool) -> bytes:  # noqa: FBT001 - as the codec's own
            try:
                return decode(chunk, last).encode("utf-8")
            except UnicodeDecodeError as error:
                raise self._unreadable(error) from None

        return read

    def _unreadable(self, error: UnicodeDecodeError) -> InvalidEncoding | UntranslatableCharacter:
        """Tell a malformed sequence from one that is no character (pg_verifymbstr, and then the tables)."""
        sequence = error.object[error.start : error.start + 4]
        is_malformed = _MALFORMED.get(self.name)
        return malformed(self.name) if is_malformed is not None and is_malformed(sequence) else unreadable(self.name)


class _Utf8(Encoding):
    """The database's own encoding: nothing is converted, and what is invalid is found where it is used."""

    __slots__ = ()

    def to_utf8(self, text: bytes) -> bytes:
        return text

    from_utf8 = shown = read = to_utf8

    def reader(self) -> Callable[[bytes, bool], bytes]:
        return lambda chunk, _last: chunk


class _Tabled(Encoding):
    """One in which Python's codec and the server differ in some characters, or, where it has no codec, in all."""

    __slots__ = ()

    @property
    def _table(self) -> Table | Map:
        return encoding_differences.shipped(self.name) if self.codec else encoding_tables.shipped(self.name)

    def _to_utf8(self, text: bytes) -> bytes:
        return self._table.to_text(text).encode("utf-8")

    def _from_utf8(self, text: bytes) -> bytes:
        return self._table.from_text(text.decode("utf-8"))

    def shown(self, text: bytes) -> bytes:
        return self._table.as_far_as_sayable(text.decode("utf-8", "replace"))

    def read(self, text: bytes) -> bytes:
        return text if text.isascii() else self._table.as_far_as_known(text).encode("utf-8")

    def reader(self) -> Callable[[bytes, bool], bytes]:
        pending = b""

        def read(chunk: bytes, last: bool) -> bytes:  # noqa: FBT001 - as the codecs' own
            nonlocal pending
            pending += chunk
            whole = self._table.whole.match(pending)
            end = whole.end() if whole is not None and not last else len(pending)
            if len(pending) - end >= _LONGEST:
                end = len(pending)  # malformed, and never whole
            complete, pending = pending[:end], pending[end:]
            return complete if complete.isascii() else self._to_utf8(complete)

        return read


@dataclass(frozen=True, slots=True)
class _OfOtherDatabase(Encoding):
    """A client's beside a database's that has fewer characters: the server refuses all others, sealed or not."""

    client: Encoding
    database: Encoding

    @property
    def of_database(self) -> Encoding:
        return self.database

    def to_utf8(self, text: bytes) -> bytes:
        given = self.client.to_utf8(text)
        try:
            self.database.from_utf8(given)
        except UnicodeDecodeError:
            raise malformed(self.name) from None
        return given

    def from_utf8(self, text: bytes) -> bytes:
        return self.client.from_utf8(text)

    def shown(self, text: bytes) -> bytes:
        return self.client.shown(text)

    def read(self, text: bytes) -> bytes:
        return self.client.read(text)

    def reader(self) -> Callable[[bytes, bool], bytes]:
        of_client, whole = self.client.reader(), codecs.getincrementaldecoder("utf-8")().decode

        def read(chunk: bytes, last: bool) -> bytes:  # noqa: FBT001 - as the codecs' own
            try:
                given = whole(of_client(chunk, last), last).encode("utf-8")
            except UnicodeDecodeError:
                raise malformed(self.name) from None
            self.database.from_utf8(given)
            return given

        return read


@cache
def beside(client: Encoding, database: Encoding) -> Encoding:
    """Return a client's encoding that has only characters which the database's has too."""
    if isinstance(client, _OfOtherDatabase):
        client = client.client
    return client if database is UTF8 or client is database else _OfOtherDatabase(client.name, client.codec, client, database)


def _characters(text: bytes) -> Iterator[bytes]:
    """Cut a text in UTF-8 into pieces of whole characters."""
    begin = 0
    while begin < len(text):
        end = begin + PIECE
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end += 1
        yield text[begin:end]
        begin = end


def _of_gbk(error: UnicodeError) -> tuple[bytes, int]:
    """Write the euro as the server's table does, which does not read it."""
    if isinstance(error, UnicodeEncodeError) and error.encoding == "gbk" and error.object[error.start] == "€":
        return b"\x80", error.start + 1
    raise error


_ERRORS = "phiproxy.server"
_LONGEST = 4  # bytes of a character
codecs.register_error(_ERRORS, _of_gbk)


def _four_bytes(sequence: bytes) -> bool:
    """Tell whether bytes are malformed in GB18030 (pg_gb18030_verifychar)."""
    if len(sequence) > 1 and 0x30 <= sequence[1] <= 0x39:
        return not (len(sequence) == 4 and 0x81 <= sequence[2] <= 0xFE and 0x30 <= sequence[3] <= 0x39)
    return not (len(sequence) > 1 and 0x81 <= sequence[0] <= 0xFE and (0x40 <= sequence[1] <= 0x7E or 0x80 <= sequence[1] <= 0xFE))


_MALFORMED: Mapping[str, Callable[[bytes], bool]] = {
    "EUC_CN": lambda sequence: len(sequence) < 2 or not all(0xA1 <= byte <= 0xFE for byte in sequence[:2]),
    "GBK": lambda sequence: len(sequence) < 2,
    "GB18030": _four_bytes,
}

UTF8: Encoding = _Utf8("UTF8", "utf-8")
_CODECS = {
    "UTF8": "utf-8",
    **{f"LATIN{i + 1}": f"iso8859-{part}" for i, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16))},
    **{f"ISO_8859_{part}": f"iso8859-{part}" for part in range(5, 9)},
    **{f"WIN125{i}": f"cp125{i}" for i in range(9)},
    "WIN866": "cp866",
    "WIN874": "cp874",
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
    "EUC_CN": "gb2312",
    "GBK": "gbk",
    "GB18030": "gb18030",
}
ENCODINGS: Mapping[str, Encoding] = {
    **{name: UTF8 if name == "UTF8" else Encoding(name, codec) for name, codec in _CODECS.items()},
    **{name: _Tabled(name, codec) for name, codec in CODECS.items()},
    **{name: _Tabled(name, "") for name in encoding_tables.UNITS},
}

# What else the server takes for a name (encnames.c), without what is neither letter nor digit.
_ALIASES = {
    "unicode": "UTF8", "alt": "WIN866", "abc": "WIN1258", "tcvn": "WIN1258", "tcvn5712": "WIN1258", "vscii": "WIN1258",
    "win": "WIN1251", "koi8": "KOI8R", "win936": "GBK",
    **{f"iso8859{part}": f"LATIN{i + 1}" for i, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16))},
    **{f"windows{page}": f"WIN{page}" for page in (866, 874, *range(1250, 1259))},
    "windows936": "GBK", "mskanji": "SJIS", "shiftjis": "SJIS",
    **{f"{prefix}{page}": name for prefix in ("win", "windows") for page, name in ((932, "SJIS"), (949, "UHC"), (950, "BIG5"))},
}  # fmt: skip
_BY_NAME = {name.replace("_", "").lower(): encoding for name, encoding in ENCODINGS.items()}


def encoding_of(name: str) -> Encoding | None:
    """Return the encoding that a name means to the server, or None for one that is not here."""
    plain = "".join(c for c in name.lower() if c.isascii() and c.isalnum())
    return _BY_NAME.get(plain) or ENCODINGS.get(_ALIASES.get(plain, ""))


def of_binary(value: bytes, type_oid: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return a value in binary form with its text changed, or those of its elements; one of a type that is no text as it is."""
    # A text holds no zero byte, an array always does.
    if type_oid in _TEXT_ARRAYS or (is_text(type_oid) and 0 in value):
        return _map_elements(value, change)
    return _changed(value, type_oid, change)


def _changed(value: bytes, type_oid: int, change: Callable[[bytes], bytes]) -> bytes:
    if type_oid == _JSONB:
        return value[:1] + change(value[1:])  # a version, and the text
    return change(value) if is_text(type_oid) else value


def is_text(type_oid: int) -> bool:
    """Tell whether values of a type are texts in the client's encoding in binary form too."""
    return type_oid in _TEXT_TYPES or type_oid == 0 or type_oid >= _FIRST_OF_USERS


def _map_elements(array: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return an array in binary form with its texts changed; one that is malformed as it is: who reads it says so."""
    element_oid = int.from_bytes(array[8:12], "big")
    if element_oid != _JSONB and not is_text(element_oid):
        return array
    start = 12 + 8 * int.from_bytes(array[:4], "big")
    parts = [array[:start]]
    while start + 4 <= len(array):
        size = int.from_bytes(array[start : start + 4], "big", signed=True)
        element = array[start + 4 : start + 4 + max(size, 0)]
        if len(element) < max(size, 0) or size < -1:
            return array
        changed = element if size == -1 else _changed(element, element_oid, change)
        parts += [(size if size == -1 else len(changed)).to_bytes(4, "big", signed=True), changed]
        start += 4 + len(element)
    return b"".join([*parts, array[start:]])
