"""json and jsonb: json keeps its text; jsonb's canonical form has its keys in order, once each, and numbers as numeric prints them.

Read and checked by Python's ``json``: its grammar is PostgreSQL's once NaN and Infinity are refused. Numbers stay text on the way.
What is long or nested deeply is read by ``json_reader``, by the same grammar.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from heapq import merge
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import NoReturn

from phiproxy.errors import ValueRefused
from phiproxy.long_values import FEW, LONG_JSON, SMALL_PIECE, decoded, empty, holds, take_apart
from phiproxy.types import json_reader
from phiproxy.types.codec import Codec, as_is, as_text, unlimited
from phiproxy.types.numerics import read_number, shortest
from phiproxy.types.value_errors import NotReadExactly, UnsupportedVersion, UntranslatableCharacter, bad_syntax
from phiproxy.wire.bytea_and_text import check_text

Value = str | bytes | bool | None | list["Value"] | dict[str, "Value"]
"""A JSON value; a number is the bytes of its digits."""

# What is nested is spelled, and walked through, by functions that call themselves twice for a level: these take none of C's stack.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 60_000))
MAX_DEPTH = 4_000
"""Far below what a PostgreSQL takes whose max_stack_depth is 2MB, as it is by default: where it is another, that decides."""
_DEEP = 200  # Python's own decoder recurses.
_LONG = 128 * 1024
_VERSION = b"\x01"
# A string, whose brackets are none, or a bracket.
_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _number(text: str) -> bytes:
    return text.encode()


Members = Callable[[list[tuple[str, Value]]], Value]


class _Reader:
    """What reads JSON; ``members`` makes an object of its members. ``hook`` does it for Python's reader, where that does not."""

    def __init__(self, members: Members, hook: Members | None) -> None:
        self._members = members
        self._decoder = json.JSONDecoder(
            parse_float=_number, parse_int=_number, parse_constant=_refuse_constant, object_pairs_hook=hook
        )

    def read(self, field: bytes) -> Value:
        """Return the value; ValueRefused (22P02) where PostgreSQL refuses it."""
        text = decoded(check_text(field))
        by_hand = len(field) > _LONG or (field.count(b"[") + field.count(b"{") > _DEEP and _depth(field) > _DEEP)
        try:
            value: Value = (
                json_reader.read(text, self._decoder, self._members, MAX_DEPTH) if by_hand else self._decoder.decode(text)
            )
        except ValueError:
            raise bad_syntax("json") from None
        except json_reader.TooDeep:
            raise NotReadExactly("a json value is nested too deeply", hint="values are read to a depth of some thousands") from None
        return value


def parse(field: bytes) -> Value:
    """Read JSON; ValueRefused (22P02) where PostgreSQL refuses it. Of repeated keys the last counts."""
    return _DECODER.read(field)


def _depth(field: bytes) -> int:
    """Return how deeply a text is nested, as far as it is JSON."""
    depth = deepest = 0
    for token in _BRACKET.finditer(field):
        if token[0] in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= token[0] in (b"]", b"}")
    return deepest


def _json_from_binary(field: bytes) -> bytes:
    parse(field)
    return field


def _refuse_form(canonical: bytes) -> bytes:
    """Raise: json has no ``=``, and so no index."""
    raise ValueRefused("could not identify an equality operator for type json")


JSON = Codec(lambda field, _styles: _json_from_binary(field), _json_from_binary, as_text, as_is, unlimited, _refuse_form)


# Of what is spelled, so many parts are joined at once: joining a million, or copying what was joined, nothing else would run.
_PARTS, _LONG_PART = 1024, 1024
_Parts = tuple[list[str], list[bytes]]
"""Of a value that is being spelled: the parts that are not joined yet, and the pieces that are."""


def _spelled(
    value: Value, number: Callable[[bytes], bytes], string: Callable[[str], str] = encode_basestring, before: bytes = b""
) -> bytes:
    """Return a value as jsonb prints it, behind what stands ``before`` it; UnicodeEncodeError for half of a surrogate pair."""
    pieces = [before] if before else list[bytes]()
    into = list[str](), pieces
    _spell(value, number, string, into)
    _join(into)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _spell(value: Value, number: Callable[[bytes], bytes], string: Callable[[str], str], into: _Parts) -> None:
    add, sign = into[0].append, ""
    if isinstance(value, str):
        if len(value) <= _LONG_PART:
            add(string(value))
        else:
            _spell_long(value, string, into)
    elif isinstance(value, bytes):
        add(number(value).decode())
    elif isinstance(value, dict):
        sign = "{"
        for key in _in_order(value):
            if len(key) <= _LONG_PART:
                add(f"{sign}{string(key)}: ")
            else:
                add(sign)
                _spell_long(key, string, into)
                add(": ")
            _spell(value[key], number, string, into)
            sign = ", "
        add("}" if value else "{}")
    elif isinstance(value, list):
        sign = "["
        for item in value:
            add(sign)
            _spell(item, number, string, into)
            sign = ", "
        add("]" if value else "[]")
    else:
        add("null" if value is None else "true" if value else "false")
    if len(into[0]) > _PARTS:
        _join(into)


def _spell_long(value: str, string: Callable[[str], str], into: _Parts) -> None:
    into[0].append('"')
    for at in range(0, len(value), SMALL_PIECE):
        into[0].append(string(value[at : at + SMALL_PIECE])[1:-1])
        _join(into)
    into[0].append('"')


def _in_order(members: dict[str, Value]) -> Iterable[str]:
    """Return the keys of an object as jsonb has them; of many, sorted by the ten thousand at once."""
    if len(members) <= FEW:
        return sorted(members, key=_key_order)
    keys = [*members]
    runs = [sorted(keys[at : at + FEW], key=_key_order) for at in range(0, len(keys), FEW)]
    return merge(*runs, key=_key_order)


def _join(into: _Parts) -> None:
    parts, pieces = into
    pieces.append("".join(parts).encode("utf-8"))
    parts.clear()


def spell(value: Value) -> bytes:
    """Return the canonical ``jsonb`` of a value that was read of one."""
    return _spelled(value, _as_read)


def _as_read(number: bytes) -> bytes:
    return number


def _key_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


def _normalised(field: bytes) -> bytes:
    value = _UNIQUE.read(field)
    try:
        return _checked(value)
    finally:
        if len(field) > LONG_JSON:
            take_apart(value)


def _checked(value: Value) -> bytes:
    """Return jsonb's text of a value, once it is seen that jsonb can hold it."""
    try:
        text = _spelled(value, read_number)
    except UnicodeEncodeError:
        if _holds_zero(value):
            raise _no_zero() from None
        raise bad_syntax("json") from None  # one half of a surrogate pair
    if holds(text, b"\\u0000") and _holds_zero(value):
        raise _no_zero()
    return text


def _no_zero() -> UntranslatableCharacter:
    return UntranslatableCharacter("unsupported Unicode escape sequence")


def canonical(value: Value) -> bytes:
    """Return jsonb's own text of a value whose numbers and strings are canonical already."""
    return _spelled(value, _as_it_is)


def canonical_ascii(value: Value, before: bytes = b"") -> bytes:
    """Return the same with escapes for all beyond ASCII, behind what stands ``before`` it: as it is in every client's encoding."""
    return _spelled(value, _as_it_is, encode_basestring_ascii, before)


def _as_it_is(number: bytes) -> bytes:
    return number


def _last_of_each(pairs: list[tuple[str, Value]]) -> Value:
    """Return an object of the last value of each key; the others are checked before they are forgotten."""
    return _gathered(pairs, check=True)


def _gathered(pairs: list[tuple[str, Value]], *, check: bool = False) -> Value:
    members: dict[str, Value] = {}
    for at in range(0, len(pairs), FEW):
        members.update(pairs[at : at + FEW])
    if len(members) != len(pairs):
        if check:
            for _, value in pairs:
                _checked(value)
        take_apart([value for key, value in pairs if value is not members[key]])
    empty(pairs)
    return members


_DECODER = _Reader(_gathered, None)
_UNIQUE = _Reader(_last_of_each, _last_of_each)


def _holds_zero(value: Value) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if "\0" in one:
                return True
        elif isinstance(one, dict):
            waiting += one.keys()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False


def _jsonb_from_binary(field: bytes) -> bytes:
    if field[:1] != _VERSION:
        raise UnsupportedVersion("unsupported jsonb version number")
    return _normalised(field[1:])


def _jsonb_form(canonical: bytes) -> bytes:
    """Return the canonical text with numbers in numeric's equality form: 1.0 is 1."""
    if b"." not in canonical:
        return canonical
    value = parse(canonical)
    form = _spelled(value, shortest)
    if len(canonical) > LONG_JSON:
        take_apart(value)
    return form


JSONB = Codec(
    lambda field, _styles: _normalised(field),
    _jsonb_from_binary,
    as_text,
    lambda canonical: _VERSION + canonical,
    unlimited,
    _jsonb_form,
)
