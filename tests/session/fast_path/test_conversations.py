"""Groups in any order are the same by the fast path as by the handlers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.session import frames as f
from tests.session.fast_path.groups import by_handlers
from tests.session.network import Network, same
from tests.session.screenplay import SECRET, legible

TEXTS = [
    "SELECT ssn, city FROM public.patients",
    "SELECT city, ssn FROM public.patients WHERE ssn = $1",
    "SELECT city FROM public.patients WHERE city = $1",
    "INSERT INTO public.patients (city, ssn) VALUES ('x', $1)",
    "SELECT msg FROM log",
    "SELECT boom()",
    "BEGIN",
    "COMMIT",
]
named = st.sampled_from("abcdefgh")


@st.composite
def a_group(draw: st.DrawFn) -> bytes:
    name = draw(named)
    right = TEXTS["abcdefgh".index(name)].count("$")
    count = draw(st.sampled_from([right, right, right, right, 1 - right]))
    values = [draw(st.sampled_from([SECRET if name in "bd" else b"y", b"x", None])) for _ in range(count)]
    formats = draw(st.sampled_from([(), (), (0,), (1,), (2,)]))
    results = draw(st.sampled_from([(), (0,), (1,), *([(0, 1)] if name in "ab" else [])]))
    asked = [f.describe()] if draw(st.booleans()) else []
    bound = f.bind(*values, statement=name, formats=formats, results=results)
    run = f.execute("", draw(st.sampled_from([0, 0, 1])))
    return b"".join([bound, *asked, run, *([f.SYNC] if draw(st.integers(0, 5)) else [])])


others = st.one_of(
    st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK", "SELECT msg FROM log"]).map(f.query),
    st.builds(f.close, named),
    st.builds(f.parse, st.sampled_from(TEXTS), named),
    st.sampled_from([f.SYNC, f.describe(), f.execute(), f.FLUSH]),
)


def conversation(script: Sequence[bytes], *, together: bool) -> Network:
    network = Network()
    for text, name in zip(TEXTS, "abcdefgh", strict=True):
        network.say(f.parse(text, name))
    network.say(f.SYNC)
    network.settle()
    for message in script:
        network.say(message)
        if not together:
            network.settle()
    network.say(f.SYNC)
    network.settle()
    return network


@settings(max_examples=60, deadline=None)
@given(script=st.lists(st.one_of(a_group(), a_group(), a_group(), others), max_size=8), together=st.booleans())
def test_groups_in_any_order_are_the_same_by_the_fast_path_and_by_the_handlers(script: list[bytes], *, together: bool) -> None:
    passed = conversation(script, together=together)
    with pytest.MonkeyPatch.context() as patch:
        by_handlers(patch)
        handled = conversation(script, together=together)
    assert [same(frame) for frame in f.split(passed.received)] == [same(frame) for frame in f.split(handled.received)]
    sent = [[legible(frame) for frame in f.split(n.captured) if frame[:1] == b"B"] for n in (passed, handled)]
    if not together:  # a message that the server would skip may wait where only handlers decide
        assert sent[0] == sent[1]
    left = (passed.session, handled.session)
    assert len({(s.status, s.phase, frozenset(s.names.statements), s.counters.rewritten) for s in left}) == 1
    assert SECRET not in passed.captured
