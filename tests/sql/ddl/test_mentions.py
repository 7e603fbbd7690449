"""Which parts of a statement name a protected column."""

from __future__ import annotations

from phiproxy.sql.ddl.mentions import mentioned
from phiproxy.sql.parse import parse


def test_mentions() -> None:
    where = parse(b"SELECT 1 WHERE lower(t.ssn) = 'x' AND city = 'ssn'")[0].body["whereClause"]
    assert mentioned(where, {"ssn"}) is not None
    assert mentioned(where, {"name"}) is None
    assert mentioned(where, ()) is None
    assert mentioned(parse(b"SELECT t.*")[0].body, {"name"}) is not None
