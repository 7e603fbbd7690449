"""Domains: values of the type that they are over, of its length, that satisfy every CHECK."""

from dataclasses import replace

from phiproxy.types.codec import Codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import CheckViolated


def domain(declared: DeclaredType, codec: Codec) -> Codec:
    """Return the codec of a domain over a type whose codec is ``codec``: a column of it has no typmod of its own.

    A value that comes in as the domain is judged at once, one that is assigned to it then.
    """
    assert declared.base is not None
    typmod, checks, own = declared.base.typmod, declared.checks, codec.assign
    if typmod < 0 and not checks:
        return codec
    name = sql_name(declared)

    def assign(canonical: bytes, _typmod: int) -> bytes:
        value = own(canonical, typmod)
        for check in checks:
            if check.holds(value.decode("utf-8")) is False:
                raise CheckViolated(declared.schema, name, check.name)
        return value

    def from_text(field: bytes, styles: Styles) -> bytes:
        return assign(codec.from_text(field, styles), typmod)

    def from_binary(field: bytes) -> bytes:
        return assign(codec.from_binary(field), typmod)

    return replace(codec, from_text=from_text, from_binary=from_binary, assign=assign)
