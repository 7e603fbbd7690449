"""The codec of a declared type: the one table of the types that can be protected (spec/sql 7)."""

from collections.abc import Callable
from functools import lru_cache

from phiproxy.errors import ConfigError
from phiproxy.types import text_types
from phiproxy.types.array_types import array
from phiproxy.types.codec import Codec
from phiproxy.types.dates import DATE
from phiproxy.types.declared import DeclaredType
from phiproxy.types.domain_types import domain
from phiproxy.types.floats import FLOAT4, FLOAT8
from phiproxy.types.integers import INT2, INT4, INT8
from phiproxy.types.intervals import INTERVAL, interval
from phiproxy.types.json_types import JSON, JSONB
from phiproxy.types.names import sql_name
from phiproxy.types.networks import CIDR, INET
from phiproxy.types.numerics import NUMERIC
from phiproxy.types.scalars import BOOL, BYTEA, UUID
from phiproxy.types.time_and_timetz import TIME, TIMETZ
from phiproxy.types.timestamps import TIMESTAMP, TIMESTAMPTZ

_BY_FAMILY = {
    "bool": BOOL,
    "bpchar": text_types.CHAR,
    "bytea": BYTEA,
    "cidr": CIDR,
    "date": DATE,
    "float4": FLOAT4,
    "float8": FLOAT8,
    "inet": INET,
    "int2": INT2,
    "int4": INT4,
    "int8": INT8,
    "interval": INTERVAL,
    "json": JSON,
    "jsonb": JSONB,
    "numeric": NUMERIC,
    "text": text_types.TEXT,
    "time": TIME,
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "timetz": TIMETZ,
    "uuid": UUID,
    "varchar": text_types.VARCHAR,
}


@lru_cache(maxsize=1024)  # one entry for each type of a policy, and each of a statement's parameters
def codec(declared: DeclaredType, lower: Callable[[bytes], bytes] | None = None) -> Codec:
    """Return the codec of a type; ``lower`` is the server's ``lower``, by which citext compares: without it, it has no form.

    ConfigError for a type that is not in the table.
    """
    if declared.base is not None:
        return domain(declared, codec(declared.base, lower))
    if declared.element is not None:
        return array(codec(declared.element, lower), declared.element.oid)
    if declared.labels:
        return text_types.enum(sql_name(declared), declared.labels)
    if declared.family == "citext":
        return text_types.citext(lower)
    if declared.family == "interval" and declared.typmod >= 0:
        return interval(declared.typmod)
    plain = _BY_FAMILY.get(declared.family)
    if plain is None:
        raise ConfigError(f"type {declared.name} is not one that can be protected")
    return plain
