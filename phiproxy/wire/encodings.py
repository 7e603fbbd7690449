"""Character sets of clients (manual 24.3.4, client_encoding): their texts to UTF-8 and back, exactly as the server converts them.

Those whose codec in Python agrees with the server's tables in every code point, which a test shows, and those of ``tabled`` and
``mapped``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from phiproxy.errors import InvalidEncoding, UntranslatableCharacter
from phiproxy.wire import mapped
from phiproxy.wire.tabled import CODECS, LONGEST, from_text, shipped, to_text

# Types whose binary form is their text, so that the server converts it: "char", name, text, json, xml, unknown, char(n), varchar …
_TEXT_TYPES = frozenset({18, 19, 25, 114, 142, 705, 1042, 1043})
_TEXT_ARRAYS = frozenset({143, 199, 1002, 1003, 1009, 1014, 1015})
# … and those that come from extensions or CREATE TYPE, of which enums and citext can be protected.
_FIRST_OF_USERS = 16384


@dataclass(frozen=True, slots=True)
class Encoding:
    """One of the server's character sets; ``codec`` is Python's name for it, where that has it."""

    name: str
    codec: str

    def to_utf8(self, text: bytes) -> bytes:
        """Return a text in UTF-8; InvalidEncoding or UntranslatableCharacter as the server would say."""
        if text.isascii():
            return text
        try:
            return text.decode(self.codec).encode("utf-8")
        except UnicodeDecodeError as error:
            raise self._unreadable(error) from None

    def from_utf8(self, text: bytes) -> bytes:
        """Return a text that is in UTF-8 in this encoding; UntranslatableCharacter when it has no such character."""
        if text.isascii():
            return text
        try:
            return text.decode("utf-8").encode(self.codec, _ERRORS)
        except UnicodeEncodeError:
            raise UntranslatableCharacter(f'a character in encoding "UTF8" has no equivalent in encoding "{self.name}"') from None

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
        found = error.object[error.start : error.start + 4]
        malformed = _MALFORMED.get(self.name)
        if malformed is not None and malformed(found):
            return InvalidEncoding(f'invalid byte sequence for encoding "{self.name}"')
        return UntranslatableCharacter(f'a byte sequence in encoding "{self.name}" has no equivalent in encoding "UTF8"')


class _Utf8(Encoding):
    """The database's own encoding: nothing is converted, and what is invalid is found where it is used."""

    __slots__ = ()

    def to_utf8(self, text: bytes) -> bytes:
        return text

    def from_utf8(self, text: bytes) -> bytes:
        return text

    def shown(self, text: bytes) -> bytes:
        return text

    def read(self, text: bytes) -> bytes:
        return text

    def reader(self) -> Callable[[bytes, bool], bytes]:
        return lambda chunk, _last: chunk


class _Tabled(Encoding):
    """One in which Python's codec and the server differ in some characters."""

    __slots__ = ()

    @property
    def _whole(self) -> re.Pattern[bytes]:
        """What matches the longest run of whole characters."""
        return shipped(self.name).whole

    def to_utf8(self, text: bytes) -> bytes:
        return text if text.isascii() else to_text(self.name, shipped(self.name), text).encode("utf-8")

    def from_utf8(self, text: bytes) -> bytes:
        return text if text.isascii() else from_text(self.name, shipped(self.name), text.decode("utf-8"))

    def shown(self, text: bytes) -> bytes:
        return b"".join(self._shown(c) for c in text.decode("utf-8", "replace"))

    def _shown(self, character: str) -> bytes:
        try:
            return self.from_utf8(character.encode("utf-8"))
        except UntranslatableCharacter:
            return b"?"

    def read(self, text: bytes) -> bytes:
        try:
            return self.to_utf8(text)
        except (InvalidEncoding, UntranslatableCharacter):
            return text.decode(self.codec, "replace").encode("utf-8")

    def reader(self) -> Callable[[bytes, bool], bytes]:
        pending = b""

        def read(chunk: bytes, last: bool) -> bytes:  # noqa: FBT001 - as the codecs' own
            nonlocal pending
            pending += chunk
            whole = self._whole.match(pending)
            end = whole.end() if whole is not None and not last else len(pending)
            if len(pending) - end >= max(LONGEST, mapped.LONGEST):
                end = len(pending)  # malformed, and never whole
            found, pending = pending[:end], pending[end:]
            return self.to_utf8(found)

        return read


class _Mapped(_Tabled):
    """One for which the server's tables are kept whole."""

    __slots__ = ()

    @property
    def _whole(self) -> re.Pattern[bytes]:
        return mapped.shipped(self.name).whole

    def to_utf8(self, text: bytes) -> bytes:
        return text if text.isascii() else mapped.to_text(self.name, mapped.shipped(self.name), text).encode("utf-8")

    def from_utf8(self, text: bytes) -> bytes:
        return text if text.isascii() else mapped.from_text(self.name, mapped.shipped(self.name), text.decode("utf-8"))

    def shown(self, text: bytes) -> bytes:
        return mapped.as_far_as_sayable(mapped.shipped(self.name), text.decode("utf-8", "replace"))

    def read(self, text: bytes) -> bytes:
        return text if text.isascii() else mapped.as_far_as_known(mapped.shipped(self.name), text).encode("utf-8")


def _of_gbk(error: UnicodeError) -> tuple[bytes, int]:
    """Write the euro as the server's table does, which does not read it."""
    if isinstance(error, UnicodeEncodeError) and error.encoding == "gbk" and error.object[error.start] == "€":
        return b"\x80", error.start + 1
    raise error


_ERRORS = "phiproxy.server"
codecs.register_error(_ERRORS, _of_gbk)


def _four_bytes(found: bytes) -> bool:
    """Tell whether bytes are malformed in GB18030 (pg_gb18030_verifychar)."""
    if len(found) > 1 and 0x30 <= found[1] <= 0x39:
        return not (len(found) == 4 and 0x81 <= found[2] <= 0xFE and 0x30 <= found[3] <= 0x39)
    return not (len(found) > 1 and 0x81 <= found[0] <= 0xFE and (0x40 <= found[1] <= 0x7E or 0x80 <= found[1] <= 0xFE))


_MALFORMED: Mapping[str, Callable[[bytes], bool]] = {
    "EUC_CN": lambda found: len(found) < 2 or not all(0xA1 <= byte <= 0xFE for byte in found[:2]),
    "GBK": lambda found: len(found) < 2,
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
    **{name: _Mapped(name, "") for name in mapped.UNITS},
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
    return change(value) if is_text(type_oid) else value


def is_text(type_oid: int) -> bool:
    """Tell whether values of a type are texts in the client's encoding in binary form too."""
    return type_oid in _TEXT_TYPES or type_oid == 0 or type_oid >= _FIRST_OF_USERS


def _map_elements(array: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return an array in binary form with its texts changed; one that is malformed as it is: who reads it says so."""
    if not is_text(int.from_bytes(array[8:12], "big")):
        return array
    start = 12 + 8 * int.from_bytes(array[:4], "big")
    parts = [array[:start]]
    while start + 4 <= len(array):
        size = int.from_bytes(array[start : start + 4], "big", signed=True)
        element = array[start + 4 : start + 4 + max(size, 0)]
        if len(element) < max(size, 0) or size < -1:
            return array
        made = element if size == -1 else change(element)
        parts += [(size if size == -1 else len(made)).to_bytes(4, "big", signed=True), made]
        start += 4 + len(element)
    return b"".join([*parts, array[start:]])
