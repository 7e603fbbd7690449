"""inet and cidr: canonical ``10.1.2.3``, ``10.0.0.0/8``, ``::1``; addresses are read by ``ipaddress``.

Spelled by rules of PostgreSQL's own: it writes IPv4 inside IPv6 with dots, and takes leading zeros in IPv4. None of the
abbreviations that only cidr has (``10.1`` for ``10.1.0.0/16``) is read.
"""

import re
from ipaddress import AddressValueError, IPv6Address

from phiproxy.errors import ValueRefused
from phiproxy.types.codec import Codec, as_text, unlimited
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import InvalidBinaryRepresentation, NotReadExactly, ProtocolViolation, bad_syntax

_V4 = re.compile(rb"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?:/(0|[1-9][0-9]?))?")
_V6 = re.compile(rb"([0-9a-fA-F:]+(?:\.[0-9]+){0,3})(?:/(0|[1-9][0-9]{0,2}))?")
# Short forms of IPv4, alone or inside IPv6, and a colon or point at the end, which the server overlooks here and there.
_ABBREVIATED = re.compile(
    rb"[0-9.]+(?:/[0-9]+)?|0[xX][0-9a-fA-F]+(?:/[0-9]+)?|[0-9a-fA-F:]+:[0-9]*\.[0-9.]*(?:/.*)?|.*[^:]:(?:/.*)?"
)
_FAMILY_V4, _FAMILY_V6 = 2, 3  # PGSQL_AF_INET and one more, as inet_send writes them
_HINT = "write all four numbers of the address and the length of the prefix: 10.1.0.0/16"


def _read(field: bytes, type_name: str) -> tuple[bytes, int]:
    """Return the address, 4 or 16 bytes, and the length of the prefix."""
    match = _V4.fullmatch(field)
    if match is not None:
        octets = [int(octet) for octet in match.groups()[:4]]
        bits = 32 if match[5] is None else int(match[5])
        if bits <= 32 and max(octets) <= 255:
            return bytes(octets), bits
        raise bad_syntax(type_name)
    match = _V6.fullmatch(field)
    if match is not None and _is_v6(match[1]):
        bits = 128 if match[2] is None else int(match[2])
        if bits <= 128:
            return IPv6Address(match[1].decode()).packed, bits
    elif _ABBREVIATED.fullmatch(field):
        raise NotReadExactly(f"an abbreviated address of type {type_name} is not read", hint=_HINT)
    raise bad_syntax(type_name)


def _is_v6(text: bytes) -> bool:
    try:
        IPv6Address(text.decode())
    except AddressValueError:
        return False
    return True


def _spell_address(address: bytes) -> str:
    if len(address) == 4:
        return ".".join(map(str, address))
    words = [int.from_bytes(address[i : i + 2], "big") for i in range(0, 16, 2)]
    start, length = _longest_zeros(words)
    if start == 0 and (length == 6 or (length == 5 and words[5] == 0xFFFF)):
        return f"::{'ffff:' if length == 5 else ''}{'.'.join(map(str, address[12:]))}"
    if length < 2:
        return ":".join(f"{word:x}" for word in words)
    return f"{':'.join(f'{word:x}' for word in words[:start])}::{':'.join(f'{word:x}' for word in words[start + length :])}"


def _longest_zeros(words: list[int]) -> tuple[int, int]:
    best, start = (0, 0), 0
    for end in range(len(words) + 1):
        if end == len(words) or words[end]:
            if end - start > best[1]:
                best = (start, end - start)
            start = end + 1
    return best


def _network(address: bytes, bits: int) -> bool:
    """Tell whether all bits right of the prefix are zero."""
    return int.from_bytes(address, "big") & ((1 << (8 * len(address) - bits)) - 1) == 0


def _codec(type_name: str, *, is_cidr: bool) -> Codec:
    def spell(address: bytes, bits: int) -> bytes:
        text = _spell_address(address)
        return (text if bits == 8 * len(address) and not is_cidr else f"{text}/{bits}").encode()

    def from_text(field: bytes, styles: Styles) -> bytes:
        address, bits = _read(field, type_name)
        if is_cidr and not _network(address, bits):
            raise ValueRefused("invalid cidr value")
        return spell(address, bits)

    def from_binary(field: bytes) -> bytes:
        address, bits = _receive(field, type_name)
        if is_cidr and not _network(address, bits):
            raise InvalidBinaryRepresentation('invalid external "cidr" value')
        return spell(address, bits)

    def to_binary(canonical: bytes) -> bytes:
        address, bits = _read(canonical, type_name)
        family = _FAMILY_V4 if len(address) == 4 else _FAMILY_V6
        return bytes((family, bits, is_cidr, len(address))) + address

    def form(canonical: bytes) -> bytes:
        address, bits = _read(canonical, type_name)
        return f"{4 if len(address) == 4 else 6}:{address.hex()}/{bits}".encode()

    return Codec(from_text, from_binary, as_text, to_binary, unlimited, form)


def _receive(field: bytes, type_name: str) -> tuple[bytes, int]:
    if len(field) < 4:
        raise ProtocolViolation("no data left in message")
    family, bits, _, length = field[:4]
    size = {_FAMILY_V4: 4, _FAMILY_V6: 16}.get(family)
    if size is None:
        raise InvalidBinaryRepresentation(f'invalid address family in external "{type_name}" value')
    if bits > 8 * size:
        raise InvalidBinaryRepresentation(f'invalid bits in external "{type_name}" value')
    if length != size:
        raise InvalidBinaryRepresentation(f'invalid length in external "{type_name}" value')
    if len(field) < 4 + size:
        raise ProtocolViolation("no data left in message")
    if len(field) > 4 + size:
        raise InvalidBinaryRepresentation("incorrect binary data format in a value")
    return field[4:], bits


INET = _codec("inet", is_cidr=False)
CIDR = _codec("cidr", is_cidr=True)
