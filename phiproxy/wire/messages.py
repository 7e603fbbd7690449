"""Cold-path messages by their names in the manual (55.7): decoders are strict on trailing bytes, encoders give whole messages.

DataRow, Bind parameters and CopyData, the hot ones, are in ``fields``.
"""

import struct
from collections.abc import Iterable, Sequence
from struct import Struct, pack, unpack_from
from typing import NamedTuple

from phiproxy.errors import MalformedMessage, WireError
from phiproxy.long_values import LONG_VALUE, copied

_U32 = Struct("!I")
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102
# Of a CancelRequest: its length and its code, before the key.
CANCEL_HEADER = 8
PROTOCOL_3_0 = 0x00030000
PROTOCOL_3_2 = 0x00030002
MAX_STARTUP = 10_000


def message(tag: bytes, payload: bytes) -> bytes:
    """Return one typed message."""
    return tag + _U32.pack(len(payload) + 4) + payload


def cstring(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Return (bytes before the zero byte, position after it); MalformedMessage when there is none before ``end``."""
    stop = data.find(0, pos, end)
    if stop < 0:
        raise MalformedMessage("a string in a message has no end")
    return data[pos:stop] if stop - pos <= LONG_VALUE else copied(data, pos, stop), stop + 1


def _whole(pos: int, end: int) -> None:
    if pos != end:
        raise MalformedMessage("a message has trailing bytes")


class Startup(NamedTuple):
    """An untyped first packet. ``code`` is the protocol version or a request code; ``parameters`` only for versions."""

    code: int
    parameters: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def get(self, name: bytes) -> bytes | None:
        """Return the last value of a startup parameter, as the server takes it."""
        return dict(self.parameters).get(name)


def decode_startup(packet: bytes) -> Startup:
    """Decode a StartupMessage, SSLRequest, CancelRequest or GSSENCRequest, its length included; WireError for anything else."""
    if len(packet) < 8 or _U32.unpack_from(packet)[0] != len(packet):
        raise WireError("the first packet is malformed")
    (code,) = _U32.unpack_from(packet, 4)
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        _whole(8, len(packet))
        return Startup(code, (), packet)
    if code == CANCEL_REQUEST:
        if not 16 <= len(packet) <= 12 + 256:
            raise WireError("the cancel request is malformed")
        return Startup(code, (), packet)
    if code >> 16 != 3:
        raise WireError("the first packet asks for an unknown protocol")
    parameters = []
    pos, end = 8, len(packet)
    while True:
        name, pos = cstring(packet, pos, end)
        if not name:
            break
        value, pos = cstring(packet, pos, end)
        parameters.append((name, value))
    _whole(pos, end)
    return Startup(code, tuple(parameters), packet)


def encode_startup(version: int, parameters: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a StartupMessage."""
    body = _U32.pack(version) + b"".join(n + b"\0" + v + b"\0" for n, v in parameters) + b"\0"
    return _U32.pack(len(body) + 4) + body


class Parse(NamedTuple):
    """Parse (F): statement name, query text, declared parameter type OIDs (0 = unspecified)."""

    name: bytes
    query: bytes
    oids: tuple[int, ...]


def decode_parse(data: bytes, pos: int, end: int) -> Parse:
    """Decode a Parse payload."""
    name, pos = cstring(data, pos, end)
    query, pos = cstring(data, pos, end)
    try:
        (count,) = unpack_from("!H", data, pos)
        oids = unpack_from(f"!{count}I", data, pos + 2)
    except struct.error:
        raise MalformedMessage("Parse is too short") from None
    _whole(pos + 2 + 4 * count, end)
    return Parse(name, query, oids)


def encode_parse(name: bytes, query: bytes, oids: Sequence[int] = ()) -> bytes:
    """Return a Parse message."""
    return b"".join(parse_parts(name, query, oids))


def parse_parts(name: bytes, query: bytes, oids: Sequence[int] = ()) -> list[bytes]:
    """Return a Parse message in parts: a long text is one of them, and is not copied."""
    head, tail = name + b"\0", pack(f"!xH{len(oids)}I", len(oids), *oids)
    if len(query) <= LONG_VALUE:
        return [message(b"P", head + query + tail)]
    return [b"P" + _U32.pack(len(head) + len(query) + len(tail) + 4) + head, query, tail]


class Target(NamedTuple):
    """The object of Describe (F) or Close (F): ``kind`` is S (statement) or P (portal)."""

    kind: bytes
    name: bytes


def decode_target(data: bytes, pos: int, end: int) -> Target:
    """Decode a Describe or Close payload."""
    kind = data[pos : pos + 1]
    if kind not in (b"S", b"P"):
        raise MalformedMessage("Describe or Close names neither a statement nor a portal")
    name, pos = cstring(data, pos + 1, end)
    _whole(pos, end)
    return Target(kind, name)


def decode_execute(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Decode an Execute payload: (portal name, row limit; 0 = none)."""
    name, pos = cstring(data, pos, end)
    _whole(pos + 4, end)
    return name, int(_U32.unpack_from(data, pos)[0])


def decode_query(data: bytes, pos: int, end: int) -> bytes:
    """Decode a Query payload: the text without its zero byte."""
    text, pos = cstring(data, pos, end)
    _whole(pos, end)
    return text


def encode_query(text: bytes) -> bytes:
    """Return a Query message."""
    return message(b"Q", text + b"\0")


def query_parts(text: bytes) -> list[bytes]:
    """Return a Query message in parts: a long text is one of them, and is not copied."""
    if len(text) <= LONG_VALUE:
        return [encode_query(text)]
    return [b"Q" + _U32.pack(len(text) + 5), text, b"\0"]


class Field(NamedTuple):
    """One field of RowDescription (B)."""

    name: bytes
    table_oid: int
    attnum: int
    type_oid: int
    type_size: int
    typmod: int
    format: int


_FIELD = Struct("!IhIhih")


def decode_row_description(data: bytes, pos: int, end: int) -> list[Field]:
    """Decode a RowDescription payload."""
    try:
        (count,) = unpack_from("!H", data, pos)
        pos += 2
        fields = []
        for _ in range(count):
            name, pos = cstring(data, pos, end)
            fields.append(Field(name, *_FIELD.unpack_from(data, pos)))
            pos += _FIELD.size
    except struct.error:
        raise MalformedMessage("RowDescription is too short") from None
    _whole(pos, end)
    return fields


def encode_row_description(fields: Sequence[Field]) -> bytes:
    """Return a RowDescription message."""
    parts = [pack("!H", len(fields))]
    parts += [f.name + b"\0" + _FIELD.pack(*f[1:]) for f in fields]
    return message(b"T", b"".join(parts))


def copy_in_description(code: int, columns: int) -> bytes:
    """Return a CopyInResponse message: the format code of the data, which is that of each column."""
    return message(b"G", pack(f"!bH{columns}H", code, columns, *[code] * columns))


def decode_parameter_description(data: bytes, pos: int, end: int) -> tuple[int, ...]:
    """Decode a ParameterDescription payload: type OIDs."""
    try:
        (count,) = unpack_from("!H", data, pos)
        oids = unpack_from(f"!{count}I", data, pos + 2)
    except struct.error:
        raise MalformedMessage("ParameterDescription is too short") from None
    _whole(pos + 2 + 4 * count, end)
    return oids


def encode_parameter_description(oids: Sequence[int]) -> bytes:
    """Return a ParameterDescription message."""
    return message(b"t", pack(f"!H{len(oids)}I", len(oids), *oids))


def decode_parameter_status(data: bytes, pos: int, end: int) -> tuple[bytes, bytes]:
    """Decode a ParameterStatus payload: (name, value)."""
    name, pos = cstring(data, pos, end)
    value, pos = cstring(data, pos, end)
    _whole(pos, end)
    return name, value


def decode_error_fields(data: bytes, pos: int, end: int) -> list[tuple[int, bytes]]:
    """Decode ErrorResponse or NoticeResponse (manual 55.8): (field code, value) in the order received."""
    fields = []
    while pos < end and data[pos]:
        code = data[pos]
        value, pos = cstring(data, pos + 1, end)
        fields.append((code, value))
    _whole(pos + 1, end)
    return fields


def encode_error_fields(tag: bytes, fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Return an ErrorResponse (tag E) or NoticeResponse (tag N)."""
    return message(tag, b"".join(bytes((code,)) + value + b"\0" for code, value in fields) + b"\0")


def error_response(
    sqlstate: str,
    text: str,
    *,
    detail: str | None = None,
    hint: str | None = None,
    position: int | None = None,
    severity: str = "ERROR",
    where: str | None = None,
    objects: Sequence[tuple[int, str]] = (),
) -> bytes:
    """Return an ErrorResponse made by the proxy: S, V, C, M, then D, H, P and W where given, and names of ``objects``."""
    fields = [(83, severity), (86, severity), (67, sqlstate), (77, text)]
    at = None if position is None else str(position)
    optional = ((68, detail or None), (72, hint or None), (80, at), (87, where))
    fields += [(code, value) for code, value in optional if value is not None]
    return encode_error_fields(b"E", [(code, value.encode()) for code, value in (*fields, *objects)])


def negotiate_protocol_version(version: int, options: Sequence[bytes]) -> bytes:
    """Return a NegotiateProtocolVersion: the newest version understood and the options that are not."""
    return message(b"v", pack("!II", version, len(options)) + b"".join(o + b"\0" for o in options))


def decode_sasl_mechanisms(data: bytes, pos: int, end: int) -> list[bytes]:
    """Decode the mechanism list of AuthenticationSASL, from after its Int32(10)."""
    mechanisms = []
    while pos < end and data[pos]:
        name, pos = cstring(data, pos, end)
        mechanisms.append(name)
    _whole(pos + 1, end)
    return mechanisms


def authentication(code: int, data: bytes = b"") -> bytes:
    """Return an AuthenticationXXX message by its code (SASLContinue 11, SASLFinal 12)."""
    return message(b"R", _U32.pack(code) + data)


def decode_sasl_initial_response(payload: bytes) -> tuple[bytes, bytes | None]:
    """Decode a SASLInitialResponse payload: (mechanism, first message or None)."""
    mechanism, pos = cstring(payload, 0, len(payload))
    if len(payload) < pos + 4:
        raise WireError("SASLInitialResponse is too short")
    (length,) = _U32.unpack_from(payload, pos)
    if length == 0xFFFFFFFF:
        _whole(pos + 4, len(payload))
        return mechanism, None
    _whole(pos + 4 + length, len(payload))
    return mechanism, payload[pos + 4 :]


def encode_sasl_initial_response(mechanism: bytes, first: bytes) -> bytes:
    """Return a SASLInitialResponse message."""
    return message(b"p", mechanism + b"\0" + _U32.pack(len(first)) + first)


def encode_authentication_sasl(mechanisms: Iterable[bytes]) -> bytes:
    """Return an AuthenticationSASL message."""
    return message(b"R", _U32.pack(10) + b"".join(m + b"\0" for m in mechanisms) + b"\0")


SYNC = message(b"S", b"")
TERMINATE = message(b"X", b"")
