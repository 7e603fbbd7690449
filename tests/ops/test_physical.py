"""What the server prints, compared with ours. Reading it is tested with the DDL, on a real server."""

from phiproxy.ops.physical import same_sql


def test_same_sql() -> None:
    assert same_sql("substring(c,1,3) = 'x'", "(\"substring\"(c, 1, 3) = 'x')")
    assert not same_sql("get_byte(c,11) >= 1", "get_byte(c, 11) >= 2")
