"""The codec of a declared type: the one table of the types that can be protected (sql.md section 7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from phiproxy.errors import ConfigError
from phiproxy.types import characters
from phiproxy.types.arraytypes import array
from phiproxy.types.codec import Codec
from phiproxy.types.dates import DATE
from phiproxy.types.declared import DeclaredType
from phiproxy.types.domains import domain
from phiproxy.types.floats import FLOAT4, FLOAT8
from phiproxy.types.integers import INT2, INT4, INT8
from phiproxy.types.intervals import INTERVAL, interval
from phiproxy.types.jsons import JSON, JSONB
from phiproxy.types.names import sql_name
from phiproxy.types.networks import CIDR, INET
from phiproxy.types.numerics import NUMERIC
from phiproxy.types.scalars import BOOL, BYTEA, UUID
from phiproxy.types.times import TIME, TIMETZ
from phiproxy.types.timestamps import TIMESTAMP, TIMESTAMPTZ

_BY_FAMILY = {
    "bool": BOOL,
    "bpchar": characters.CHAR,
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
    "text": characters.TEXT,
    "time": TIME,
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "timetz": TIMETZ,
    "uuid": UUID,
    "varchar": characters.VARCHAR,
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
        return characters.enum(sql_name(declared), declared.labels)
    if declared.family == "citext":
        return characters.citext(lower)
    if declared.family == "interval" and declared.typmod >= 0:
        return interval(declared.typmod)
    found = _BY_FAMILY.get(declared.family)
    if found is None:
        raise ConfigError(f"type {declared.name} is not one that can be protected")
    return found
