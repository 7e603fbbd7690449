"""Contexts: what a wrap is bound to, byte for byte."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.keys.provider import Context


def test_a_context_is_framed_in_order() -> None:
    parts = [b"phi/wrap/v1", b"clinic", b"t:public.patients", b"", b"data", b"12"]
    expected = b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    assert Context("clinic", "t:public.patients", "", "data", 12).encode() == expected


def test_contexts_differ_by_each_part() -> None:
    one = Context("clinic", "d:mrn", "acme", "data", 1)
    others = [
        replace(one, deployment="x"),
        replace(one, scope="d:mr"),
        replace(one, tenant=""),
        replace(one, purpose="index"),
        replace(one, generation=2),
        Context("clinic", "d:mrnacme", "", "data", 1),
    ]
    assert len({c.encode() for c in [one, *others]}) == 7
