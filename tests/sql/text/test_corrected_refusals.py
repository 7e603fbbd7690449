"""A refusal that leaves a block is corrected, and goes on; nothing else is."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.text.corrected_refusals import Corrected


def at_seven(refusal: StatementRefused) -> None:
    refusal.position = refusal.position or 7


@pytest.mark.parametrize(("position", "corrected"), [(None, 7), (3, 3)])
def test_a_refusal_gets_a_position(position: int | None, corrected: int) -> None:
    with pytest.raises(StatementRefused) as refused, Corrected(at_seven):
        raise StatementRefused("no", hint="Do not.", position=position)
    assert refused.value.position == corrected


def test_other_errors_go_on_as_they_are() -> None:
    with pytest.raises(ValueRefused) as refused, Corrected(at_seven):
        raise ValueRefused("no")
    assert refused.value.position is None
    with Corrected(at_seven):
        pass
