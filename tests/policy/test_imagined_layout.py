"""A layout for questions that are asked before there is a registry."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.policy.imagined_layout import imagined_layout
from tests.policy.build import make_layout, make_policy

POLICY = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a", "lower(a)"], "distinct": 10**6}, "b": {"type": "bytea"}}})


def test_it_is_what_keys_init_would_register() -> None:
    layout = imagined_layout(POLICY, lambda type_: type_.name)
    registered = make_layout(POLICY)
    assert layout == replace(registered, epoch=0, clear=frozenset(registered.columns))
