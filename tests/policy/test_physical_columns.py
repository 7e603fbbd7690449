"""Tags as text."""

from dataclasses import replace

from phiproxy.policy.bind import assemble
from phiproxy.policy.physical_columns import tag
from phiproxy.policy.protection import Slot
from tests.policy.build import make_layout, make_policy

POLICY = make_policy({"public.t": {"c": {"type": "text", "indexes": ["c"]}}})
COLUMN = assemble(POLICY, make_layout(POLICY), "phiproxy").by_name["public", "t"].columns["c"]


def test_tags() -> None:
    assert tag(COLUMN, Slot(0, "@", 1, "active")) == "pg_catalog.substring(c, 13, 16)"
    assert tag(replace(COLUMN, name="Odd"), Slot(2, "@", 1, "active")) == 'pg_catalog.substring("Odd", 45, 16)'
