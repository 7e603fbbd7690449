"""The closed table of index expressions."""

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.transforms import spell


@pytest.mark.parametrize(
    "text",
    [
        "ssn",
        "SSN",
        '"ssn"',
        "ssn::text",
        "(ssn)",
        "((ssn)::text)::varchar",
        " ssn ",
        "ssn::pg_catalog.text",
        "ssn::character varying",
    ],
)
def test_the_column_itself(text: str) -> None:
    assert spell(text, "ssn") == "@"


@pytest.mark.parametrize(
    "text",
    [
        "lower(ssn)",
        "right(ssn, 4)",
        "ssn::varchar(3)",
        "ssn::bytea",
        '"SSN"',
        "other",
        "",
        "ssn || 'x'",
        "(ssn",
        "ssn)",
        "ssn::",
        "::text",
        "ssn::text::",
        "value",
        "'ssn'",
        "ssn::(text)",
        "a.ssn",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not in this version"):
        spell(text, "ssn")


def test_a_quoted_column() -> None:
    assert spell('"My Col"::text', "My Col") == "@"
    with pytest.raises(ConfigError):
        spell("MyCol", "MyCol")
