"""PostgreSQL's built-in types by their OIDs, which never change (pg_type.dat): the one place where these numbers stand."""

from typing import Final, NamedTuple


class BuiltinType(NamedTuple):
    """One row of pg_type: typlen, oid and typarray; 0 where there are no arrays of it."""

    size: int
    oid: int
    array_oid: int


FIRST_NORMAL_OID: Final = 16384  # FirstNormalObjectId: what is below was made by initdb

BUILTIN_TYPES: Final = {
    "bool": BuiltinType(1, 16, 1000),
    "bytea": BuiltinType(-1, 17, 1001),
    "char": BuiltinType(1, 18, 1002),  # "char", of one byte
    "name": BuiltinType(64, 19, 1003),
    "int8": BuiltinType(8, 20, 1016),
    "int2": BuiltinType(2, 21, 1005),
    "int4": BuiltinType(4, 23, 1007),
    "text": BuiltinType(-1, 25, 1009),
    "json": BuiltinType(-1, 114, 199),
    "xml": BuiltinType(-1, 142, 143),
    "cidr": BuiltinType(-1, 650, 651),
    "float4": BuiltinType(4, 700, 1021),
    "float8": BuiltinType(8, 701, 1022),
    "unknown": BuiltinType(-2, 705, 0),
    "inet": BuiltinType(-1, 869, 1041),
    "bpchar": BuiltinType(-1, 1042, 1014),
    "varchar": BuiltinType(-1, 1043, 1015),
    "date": BuiltinType(4, 1082, 1182),
    "time": BuiltinType(8, 1083, 1183),
    "timestamp": BuiltinType(8, 1114, 1115),
    "timestamptz": BuiltinType(8, 1184, 1185),
    "interval": BuiltinType(16, 1186, 1187),
    "timetz": BuiltinType(12, 1266, 1270),
    "bit": BuiltinType(-1, 1560, 1561),
    "numeric": BuiltinType(-1, 1700, 1231),
    "uuid": BuiltinType(16, 2950, 2951),
    "jsonb": BuiltinType(-1, 3802, 3807),
    "record": BuiltinType(-1, 2249, 2287),
    "any": BuiltinType(4, 2276, 0),
    "anyarray": BuiltinType(-1, 2277, 0),
    "anyelement": BuiltinType(4, 2283, 0),
    "anynonarray": BuiltinType(4, 2776, 0),
    "anyenum": BuiltinType(4, 3500, 0),
    "anyrange": BuiltinType(-1, 3831, 0),
    "anymultirange": BuiltinType(-1, 4537, 0),
    "anycompatiblemultirange": BuiltinType(-1, 4538, 0),
    "anycompatible": BuiltinType(4, 5077, 0),
    "anycompatiblearray": BuiltinType(-1, 5078, 0),
    "anycompatiblenonarray": BuiltinType(4, 5079, 0),
    "anycompatiblerange": BuiltinType(-1, 5080, 0),
}

BOOL_OID: Final = BUILTIN_TYPES["bool"].oid
BYTEA_OID: Final = BUILTIN_TYPES["bytea"].oid
INT2_OID: Final = BUILTIN_TYPES["int2"].oid
INT4_OID: Final = BUILTIN_TYPES["int4"].oid
INT8_OID: Final = BUILTIN_TYPES["int8"].oid
INTERVAL_OID: Final = BUILTIN_TYPES["interval"].oid
NUMERIC_OID: Final = BUILTIN_TYPES["numeric"].oid
JSONB_OID: Final = BUILTIN_TYPES["jsonb"].oid
RECORD_OID: Final = BUILTIN_TYPES["record"].oid
TEXT_OID: Final = BUILTIN_TYPES["text"].oid
UNKNOWN_OID: Final = BUILTIN_TYPES["unknown"].oid
VARCHAR_OID: Final = BUILTIN_TYPES["varchar"].oid
BYTEA_ARRAY_OID: Final = BUILTIN_TYPES["bytea"].array_oid
JSONB_ARRAY_OID: Final = BUILTIN_TYPES["jsonb"].array_oid
TEXT_ARRAY_OID: Final = BUILTIN_TYPES["text"].array_oid
VARCHAR_ARRAY_OID: Final = BUILTIN_TYPES["varchar"].array_oid

# How a parameter or result is declared that may be a text: 0 says nothing.
TEXT_LIKE: Final = frozenset({0, TEXT_OID, UNKNOWN_OID, VARCHAR_OID})
TEXT_ARRAY_LIKE: Final = frozenset({0, UNKNOWN_OID, TEXT_ARRAY_OID, VARCHAR_ARRAY_OID})


def oids(*names: str) -> frozenset[int]:
    """Return the OIDs of types by their names in pg_type."""
    return frozenset(BUILTIN_TYPES[name].oid for name in names)


TEXT_OIDS: Final = frozenset(BUILTIN_TYPES[name].oid for name in ("text", "bpchar", "varchar", "name"))
# Dates and times, arrays, ranges and multiranges of them.
MOMENT_OIDS: Final = frozenset(
    {oid for name in ("date", "time", "timestamp", "timestamptz", "timetz") for oid in BUILTIN_TYPES[name][1:]}
    | {3908, 3909, 3910, 3911, 3912, 3913, 4533, 4534, 4535}
)
SYSTEM_COLUMN_OIDS: Final = {"tid": 27, "xid": 28, "cid": 29, "oid": 26}
# Types without a binary form, and pseudo-types.
NOT_CARRIED_OIDS: Final = frozenset({32, 194, 1033, 1034, 2249, 2277, 3361, 3402, 5017})
# Types whose values mean something in one server's catalogue only: regclass and its kin, and arrays of them.
CATALOG_OIDS: Final = frozenset({24, 1008, 2202, 2207, 2203, 2208, 2204, 2209, 2205, 2210, 2206, 2211, 3734, 3735, 3769, 3770, 4089,
                                 4090, 4096, 4097, 4191, 4192})  # fmt: skip
