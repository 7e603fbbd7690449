"""What PostgreSQL calls a type in its messages (format_type)."""

from phiproxy.types.declared import DeclaredType

SQL_NAMES = {
    "bool": "boolean",
    "bpchar": "character",
    "float4": "real",
    "float8": "double precision",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "timetz": "time with time zone",
    "varchar": "character varying",
}


def sql_name(declared: DeclaredType) -> str:
    """Return the name without a length."""
    if declared.element is not None:
        return sql_name(declared.element) + "[]"
    if declared.labels or declared.base is not None:
        return declared.name.rpartition(".")[2]
    return SQL_NAMES.get(declared.family, declared.family)
