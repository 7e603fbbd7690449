"""Which constants a view may have: those that are read alike at all times."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from tests.sql.split.test_view_definition import defined


@pytest.mark.parametrize(
    "condition",
    ["born + 1 > '2000-01-31'", "age(born) > interval '18 years'", "name || '' = '01/02/2000'", "name || '' IN ('1-2-3', 'x')",
     "name ILIKE '01/02%'", "length(name) > 3.5", "name || '' > '12'", "born + 0 > date '2000-01-31'"],
)  # fmt: skip
def test_read_alike(condition: str) -> None:
    assert defined(f"CREATE VIEW v AS SELECT id FROM people WHERE {condition}") is not None


@pytest.mark.parametrize(
    "condition", ["born + 1 > '01/02/2000'", "born + 1 > '31 Jan 2000'", "born + interval '1 day' > '2000-01-31 10:30'"]
)
def test_not_read_alike(condition: str) -> None:
    with pytest.raises(StatementRefused, match="other settings"):
        defined(f"CREATE VIEW v AS SELECT id FROM people WHERE {condition}")


def test_a_day_is_a_moment_beside_time_zones() -> None:
    with pytest.raises(StatementRefused, match="other settings"):
        defined("CREATE VIEW v AS SELECT id FROM people WHERE born::timestamptz > '2000-01-31'")
