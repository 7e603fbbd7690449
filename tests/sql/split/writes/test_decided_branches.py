"""Beside branches that given values decide there may be anything."""

from __future__ import annotations

import pytest

from tests.sql.split.ask import split_of

DECIDED = "coalesce(nullif($1, ''), 'M' || nextval('numbers'))"


@pytest.mark.parametrize("beside", ["nullif(city, 'x')", "nullif(mrn, 'x')", "coalesce(nullif($2, 'x'), 'y')"])
@pytest.mark.parametrize("value", ["{} || {}", "concat({}, {})"])
def test_what_stands_beside_them_decides_nothing(value: str, beside: str) -> None:
    split = split_of(f"UPDATE patients SET mrn = {value.format(DECIDED, beside)}")
    assert split is not None
    assert split.write is not None
    assert b"nextval('numbers')" in split.write.text
    assert b"nextval" not in b"".join(split.rest.parts)
