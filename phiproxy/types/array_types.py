"""Arrays of a type: every element through the element's codec; canonical is the array's text with canonical elements."""

from phiproxy.crypto.envelope import frame
from phiproxy.types.codec import Codec, as_text, unlimited
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import ArrayTooLarge, NotReadExactly
from phiproxy.wire.arrays import Array, array_from_binary, array_from_text, array_to_binary, array_to_text

_NULL, _VALUE = b"\x00", b"\x01"
_LARGEST_BOUND = 2**31 - 1


def array(element: Codec, element_oid: int) -> Codec:
    """Return the codec of arrays of a type."""

    def from_text(field: bytes, styles: Styles) -> bytes:
        array = _within(array_from_text(field))
        if not array.elements and field.count(b"{") > 1:
            raise NotReadExactly("nested empty arrays are not the same in every version of PostgreSQL", hint="write {}")
        return array_to_text(array.map(lambda e: element.from_text(e, styles)))

    def from_binary(field: bytes) -> bytes:
        return array_to_text(_within(array_from_binary(field, element_oid=element_oid)).map(element.from_binary))

    def to_text(canonical: bytes, styles: Styles) -> bytes:
        return array_to_text(array_from_text(canonical).map(lambda e: element.to_text(e, styles)))

    def to_binary(canonical: bytes) -> bytes:
        return array_to_binary(array_from_text(canonical).map(element.to_binary), element_oid)

    def assign(canonical: bytes, typmod: int) -> bytes:
        if element.assign is unlimited:
            return canonical
        return array_to_text(array_from_text(canonical).map(lambda e: element.assign(e, typmod)))

    def form(canonical: bytes) -> bytes:
        array = array_from_text(canonical)
        bounds = [b"%d" % number for bound in array.bounds for number in bound]
        return frame(*bounds, *[_NULL if e is None else _VALUE + element.form(e) for e in array.elements])

    return Codec(from_text, from_binary, as_text if element.to_text is as_text else to_text, to_binary, assign, form)


def _within(array: Array) -> Array:
    if any(lower + length - 1 >= _LARGEST_BOUND or lower < -_LARGEST_BOUND - 1 for length, lower in array.bounds):
        raise ArrayTooLarge("array bound is too large")
    return array
