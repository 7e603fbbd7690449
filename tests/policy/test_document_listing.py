"""A policy that lists other paths in clear than sealed documents were stored with is told, with what must be rewritten."""

from __future__ import annotations

import pytest

from phiproxy.policy.column_states import column_states
from phiproxy.policy.document_listing import listing_complaints
from tests.policy.build import changed, make_catalog, make_layout, make_policy

FIELDS = {"$.ssn": {"type": "text"}}


@pytest.mark.parametrize(
    ("policy", "stored", "said"),
    [
        ({"others": "sealed", "clear": ["$.b", "$.a"]}, ("$.a", "$.b"), None),
        ({"others": "clear"}, None, None),
        ({"others": "sealed"}, (), None),
        ({"others": "sealed", "clear": ["$.b"]}, ("$.a", "$.c"), "$.a, $.c is in clear in them; $.b is sealed in them. Its"),
        ({"others": "sealed"}, None, "its documents were stored with `others: clear`, the policy says `others: sealed`. Its"),
        ({"others": "clear"}, ("$.a",), "its documents were stored with `others: sealed`, the policy says `others: clear`. Its"),
    ],
)
@pytest.mark.parametrize("guarded", [True, False])
def test_complaints(policy: dict[str, object], stored: tuple[str, ...] | None, said: str | None, guarded: bool) -> None:
    described = make_policy({"public.t": {"doc": {"type": "jsonb", "fields": FIELDS, **policy}}})
    listed = (("doc", stored),) if stored is not None else ()
    catalog = changed(make_catalog(described), guards=(("doc", 1),) if guarded else (), guarded_clear=listed if guarded else ())
    states = column_states(described, make_layout(described), catalog)
    lines = listing_complaints(list(described.columns()), states, catalog)
    if said is None or not guarded:
        assert not lines
    else:
        (line,) = lines
        assert said in line
        assert "phiproxy decrypt public.t.doc" in line
