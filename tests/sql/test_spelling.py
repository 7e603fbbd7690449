"""The spelling of index expressions: what is written alike is spelled alike."""

import pytest

from phiproxy.errors import ConfigError
from phiproxy.sql.spelling import spell


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
    assert spell(text, "ssn", "text") == "@"


@pytest.mark.parametrize(
    "text",
    [
        "ssn::varchar(3)", '"SSN"', "other", "", "ssn || 'x'", "(ssn", "ssn)", "ssn::", "::text",
        "ssn::text::", "value", "'ssn'", "ssn::(text)", "a.ssn", "lower(m)", "lower(ssn) a", "lower(ssn), ssn",
        "lower(ssn) FROM t", "concat(ssn, ssn)", "'@'", "lower('ssn')", 'ssn COLLATE "C"', "lower(ssn",
        "count(DISTINCT ssn)", "lower(VARIADIC ssn)", "lower(x => ssn)", "lower(*)", "*", "ssn.lower", "left(ssn, $1)",
        "lower(t.ssn)", "lower(ssn) WHERE true", "NULL", "lower(ssn); SELECT ssn", "ssn UNION SELECT 1",
    ],
)  # fmt: skip
def test_what_is_no_expression_over_the_column(text: str) -> None:
    with pytest.raises(ConfigError, match=r"index|among the functions|cast"):
        spell(text, "ssn", "text")


def test_a_quoted_column() -> None:
    assert spell('"My Col"::text', "My Col", "text") == "@"
    with pytest.raises(ConfigError):
        spell("MyCol", "MyCol", "text")


@pytest.mark.parametrize(
    ("texts", "spelling"),
    [
        (["lower(n)", "LOWER(n)", "pg_catalog.lower((n)::text)", "(lower(n::varchar))::text", 'lower("n")'], "lower(@)"),
        (["left(lower(n), 3)", "left( LOWER(n) , 3 )"], "left(lower(@),3)"),
        (["substr(n, 1, 3)", "substring(n, 1, 3)", "substring(n from 1 for 3)", "SUBSTRING(n FOR 3 FROM 1)"], "left(@,3)"),
        (
            [r"regexp_replace(n, '\D', '', 'g')", r"regexp_replace(n, E'\\D', '', 'g')", r"regexp_replace(n, $$\D$$, '', 'g')"],
            r"regexp_replace(@,'\D','','g')",
        ),
        (["trim(n)", "trim(both from n)", "btrim(n)", "trim(both ' ' from n)", "btrim(n, ' ')"], "btrim(@)"),
        (["ltrim(n, '''')", "trim(leading '''' from n)"], "ltrim(@,'''')"),
        (["left(n, -1)"], "left(@,-1)"),
        (["soundex(n)", "public.soundex(n)"], "soundex(@)"),
    ],
)
def test_expressions(texts: list[str], spelling: str) -> None:
    assert {spell(text, "n", "text") for text in texts} == {spelling}


@pytest.mark.parametrize(
    ("texts", "type_name", "spelling"),
    [
        (["extract(year from n)", "EXTRACT(YEAR FROM n)", "pg_catalog.extract('Year', n)"], "date", "extract('year',@)"),
        (["date_part('year', n)", "date_part('YEAR', n)"], "date", "date_part('year',@)"),
        (
            ["date_trunc('month', n::timestamp)", "date_trunc('MONTH', CAST(n AS timestamp))"],
            "date",
            "date_trunc('month',@::timestamp)",
        ),
        (["date_trunc('month', n)", "date_trunc('month', n::timestamp)"], "timestamp", "date_trunc('month',@)"),
        (
            ["date_trunc('day', n AT TIME ZONE 'UTC')", "date_trunc('day', timezone('UTC', n))"],
            "timestamptz",
            "date_trunc('day',timezone('UTC',@))",
        ),
    ],
)
def test_expressions_over_other_types(texts: list[str], type_name: str, spelling: str) -> None:
    assert {spell(text, "n", type_name) for text in texts} == {spelling}
