"""Conditions of domains as the server prints them."""

import json

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.check_evaluation import condition
from phiproxy.sql.domain_conditions import domain_condition


@pytest.mark.parametrize(
    ("text", "family", "good", "bad"),
    [
        (r"((VALUE)::text ~ '^\d{3}'::text)", "varchar", "123", "12"),
        ("(VALUE <> 'a'::text)", "text", "b", "a"),
        ("(length(VALUE) < 4)", "text", "abc", "abcd"),
        ("((VALUE >= 0.0) AND (VALUE < (1000)::numeric))", "numeric", "999.99", "1000"),
        ("((VALUE)::integer < 151)", "int4", "150", "151"),
        ("((VALUE >= '2000-01-01'::date) AND (VALUE <= '2100-01-01'::date))", "date", "2000-01-01", "1999-12-31"),
        ("((VALUE)::text = ANY ((ARRAY['YES'::character varying, 'NO'::character varying])::text[]))", "varchar", "NO", "no"),
        ("((VALUE)::text ~~ 'a%'::text)", "varchar", "abc", "b"),
    ],
)
def test_a_condition_of_a_domain_is_evaluated_as_the_server_prints_it(text: str, family: str, good: str, bad: str) -> None:
    holds = condition(domain_condition(text, family, ()))
    assert (holds(good), holds(bad), holds(None)) == (True, False, None)


@pytest.mark.parametrize(
    ("text", "family", "why"),
    [
        ("(VALUE <> 'sad'::mood)", "enum", "conditions over enum are not in this version"),
        ("(VALUE ~ '^a'::citext)", "citext", "conditions over citext are not in this version"),
        ("(f(VALUE) > 1)", "int4", "not understood"),
        ("(x > 1)", "int4", "it names something else than VALUE"),
        ("(VALUE ~ '(?i)x'::text)", "text", "options at its beginning"),
        ("((VALUE)::bigint < 5)", "int4", "not understood"),
        ("VALUE", "text", "it is no condition"),
        ("nonsense(", "text", "syntax error"),
    ],
)
def test_a_condition_that_is_not_in_the_table_is_refused_with_the_reason(text: str, family: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        domain_condition(text, family, ())


def test_an_operator_of_somebodys_own() -> None:
    assert json.loads(domain_condition("(VALUE <> 'a'::text)", "text", ()))["version"] == 1
    with pytest.raises(ConfigError, match="not understood"):
        domain_condition("(VALUE <> 'a'::text)", "text", ("<>",))
