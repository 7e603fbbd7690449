"""The messages of the manual, by their names, as bytes that can be said in a dialogue and read in a diff."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack, unpack_from

from phiproxy.errors import MalformedMessage
from phiproxy.wire.fields import Bind as BindFields
from phiproxy.wire.fields import decode_bind, encode_bind
from phiproxy.wire.messages import (
    Field,
    decode_error_fields,
    decode_execute,
    decode_parameter_description,
    decode_parse,
    decode_query,
    decode_row_description,
    decode_target,
    encode_error_fields,
    encode_parameter_description,
    encode_parse,
    encode_query,
    encode_row_description,
    message,
)


class Frame(bytes):
    """One whole message; ``A(…)`` of a subclass builds it, any bytes can be wrapped as they are."""

    def __new__(cls, data: bytes) -> Frame:
        return super().__new__(cls, data)


def raw(tag: bytes, payload: bytes = b"") -> Frame:
    """Return a message of any tag."""
    return Frame(message(tag, payload))


# -- frontend ------------------------------------------------------------------------------------------------------------------


def parse(query: str, name: str = "", oids: Sequence[int] = ()) -> Frame:
    return Frame(encode_parse(name.encode(), query.encode(), oids))


def bind(
    *values: bytes | None,
    statement: str = "",
    portal: str = "",
    formats: Sequence[int] | None = None,
    results: Sequence[int] = (),
) -> Frame:
    """Return a Bind; ``formats`` are expanded to one code per value as the proxy sends them, unless given."""
    codes = tuple(formats) if formats is not None else (0,) * len(values)
    return Frame(encode_bind(BindFields(portal.encode(), statement.encode(), codes, list(values), tuple(results))))


def describe(name: str = "", kind: str = "P") -> Frame:
    return raw(b"D", kind.encode() + name.encode() + b"\0")


def execute(portal: str = "", limit: int = 0) -> Frame:
    return raw(b"E", portal.encode() + b"\0" + pack("!I", limit))


def close(name: str, kind: str = "S") -> Frame:
    return raw(b"C", kind.encode() + name.encode() + b"\0")


def query(text: str) -> Frame:
    return Frame(encode_query(text.encode()))


def function_call(oid: int, *arguments: bytes) -> Frame:
    """Return a FunctionCall with arguments and result in binary."""
    sent = b"".join(pack("!i", len(value)) + value for value in arguments)
    return raw(b"F", pack("!IHHH", oid, 1, 1, len(arguments)) + sent + pack("!H", 1))


def copy_data(data: bytes) -> Frame:
    return raw(b"d", data)


def copy_fail(reason: str) -> Frame:
    return raw(b"f", reason.encode() + b"\0")


SYNC = raw(b"S")
FLUSH = raw(b"H")
TERMINATE = raw(b"X")
COPY_DONE = raw(b"c")

# -- backend -------------------------------------------------------------------------------------------------------------------

AUTHENTICATION_OK = raw(b"R", b"\0\0\0\0")
PARSE_COMPLETE = raw(b"1")
BIND_COMPLETE = raw(b"2")
CLOSE_COMPLETE = raw(b"3")
NO_DATA = raw(b"n")
PORTAL_SUSPENDED = raw(b"s")
EMPTY_QUERY_RESPONSE = raw(b"I")
FUNCTION_RESULT = raw(b"V", b"\0\0\0\4\0\0\0\7")
COPY_IN = raw(b"G", b"\0\0\x01\0\0")
COPY_OUT = raw(b"H", b"\0\0\x01\0\0")


def ready(status: str = "I") -> Frame:
    return raw(b"Z", status.encode())


def command_complete(tag: str) -> Frame:
    return raw(b"C", tag.encode() + b"\0")


def data_row(*values: bytes | None) -> Frame:
    body = b"".join(b"\xff\xff\xff\xff" if v is None else pack("!i", len(v)) + v for v in values)
    return raw(b"D", pack("!H", len(values)) + body)


def column(name: str, type_oid: int = 25, *, table: int = 0, attnum: int = 0, typmod: int = -1, code: int = 0) -> Field:
    return Field(name.encode(), table, attnum, type_oid, 4 if type_oid == 23 else -1, typmod, code)


def row_description(*fields: Field) -> Frame:
    return Frame(encode_row_description(fields))


def parameter_description(*oids: int) -> Frame:
    return Frame(encode_parameter_description(oids))


def parameter_status(name: str, value: str) -> Frame:
    return raw(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def backend_key(pid: int, secret: bytes) -> Frame:
    return raw(b"K", pack("!I", pid) + secret)


def notification(channel: str, payload: str) -> Frame:
    return raw(b"A", pack("!I", 7) + channel.encode() + b"\0" + payload.encode() + b"\0")


def _fields(severity: str, sqlstate: str, text: str, more: dict[str, str]) -> list[tuple[int, bytes]]:
    shown = {"S": severity, "V": severity, "C": sqlstate, "M": text, **more}
    return [(ord(code), value.encode()) for code, value in shown.items()]


def error(sqlstate: str, text: str = "server's words", *, severity: str = "ERROR", **more: str) -> Frame:
    """Return an ErrorResponse of the server; further fields by their letter."""
    return Frame(encode_error_fields(b"E", _fields(severity, sqlstate, text, more)))


def notice(text: str, **more: str) -> Frame:
    return Frame(encode_error_fields(b"N", _fields("NOTICE", "00000", text, more)))


def error_fields(frame: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse."""
    return {chr(code): value.decode() for code, value in decode_error_fields(frame, 5, len(frame))}


# -- reading -------------------------------------------------------------------------------------------------------------------


def split(data: bytes) -> Iterator[Frame]:
    """Cut whole messages apart; what is left over is one last piece."""
    pos = 0
    while pos < len(data):
        end = pos + 1 + unpack_from("!I", data, pos + 1)[0] if len(data) - pos >= 5 else len(data)
        yield Frame(data[pos:end])
        pos = end


_CLIENT_SAYS = {"S": "Sync", "H": "Flush", "X": "Terminate", "c": "CopyDone"}
_SERVER_SAYS = {
    "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "n": "NoData", "s": "PortalSuspended",
    "I": "EmptyQueryResponse", "G": "CopyInResponse", "H": "CopyOutResponse", "c": "CopyDone",
}  # fmt: skip


def show_client(frame: bytes) -> str:
    """Return one line for a message of the client; one that cannot be read is shown as it is."""
    try:
        return _show_client(frame)
    except MalformedMessage:
        return f"{chr(frame[0])} malformed {frame[5:]!r}"


def _show_client(frame: bytes) -> str:
    tag, end = chr(frame[0]), len(frame)
    if tag == "P":
        name, text, oids = decode_parse(frame, 5, end)
        return f"Parse {_text(name)} {_text(text)} {list(oids)}"
    if tag == "B":
        b = decode_bind(frame, 5, end)
        formats, results = list(b.formats), list(b.result_formats)
        return f"Bind {_text(b.portal)} <- {_text(b.statement)} {b.values} formats={formats} results={results}"
    if tag in "DC":
        kind, name = decode_target(frame, 5, end)
        return f"{'Describe' if tag == 'D' else 'Close'} {kind.decode()} {_text(name)}"
    if tag == "E":
        name, limit = decode_execute(frame, 5, end)
        return f"Execute {_text(name)} limit={limit}"
    if tag == "Q":
        return f"Query {_text(decode_query(frame, 5, end))}"
    return _CLIENT_SAYS.get(tag, f"{tag} {frame[5:]!r}")


def show_server(frame: bytes) -> str:
    """Return one line for a message of the server."""
    tag, end = chr(frame[0]), len(frame)
    if tag in "EN":
        shown = " ".join(f"{code}={value!r}" for code, value in error_fields(frame).items())
        return f"{'ErrorResponse' if tag == 'E' else 'NoticeResponse'} {shown}"
    if tag == "T":
        return "RowDescription " + ", ".join(str(tuple(f)) for f in decode_row_description(frame, 5, end))
    if tag == "t":
        return f"ParameterDescription {list(decode_parameter_description(frame, 5, end))}"
    if tag == "D":
        return f"DataRow {values(frame)}"
    if tag == "C":
        return f"CommandComplete {frame[5:-1].decode()}"
    if tag == "Z":
        return f"ReadyForQuery {frame[5:].decode()}"
    return _SERVER_SAYS.get(tag, f"{tag} {frame[5:]!r}")


def values(frame: bytes) -> list[bytes | None]:
    """Return the fields of a DataRow: the reference that the fast functions must equal."""
    (count,) = unpack_from("!H", frame, 5)
    pos, found = 7, list[bytes | None]()
    for _ in range(count):
        (size,) = unpack_from("!i", frame, pos)
        found.append(None if size < 0 else frame[pos + 4 : pos + 4 + size])
        pos += 4 + max(size, 0)
    assert pos == len(frame)
    return found


def _text(data: bytes) -> str:
    return repr(data.decode("utf-8", "backslashreplace"))
