"""What the server prints, compared with ours. Reading it is tested with the DDL, on a real server."""

from phiproxy.ops.physical_tables import same_sql


def test_same_sql() -> None:
    assert same_sql("substring(c,1,3) = 'x'", "(\"substring\"(c, 1, 3) = 'x')")
    partial = "NULLIF(pg_catalog.substring(born, 29, 16), '\\x00000000000000000000000000000000'::bytea)"
    assert same_sql(partial, partial.replace("pg_catalog.substring", '"substring"'))
    assert not same_sql(partial, '"substring"(born, 29, 16)')
    assert not same_sql("get_byte(c,11) >= 1", "get_byte(c, 11) >= 2")
