"""Equal expressions, one spelling."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import ConfigError
from phiproxy.index.date_functions import FIELDS, is_whole
from phiproxy.index.registered_form import normal, twins
from phiproxy.index.spelling import read, write
from phiproxy.index.transform import transform
from phiproxy.policy.column_types import builtin
from phiproxy.types.codecs import codec


@pytest.mark.parametrize(
    ("text", "type_name", "spelling"),
    [
        ("@::text", "varchar(3)", "@"),
        ("@::varchar", "text", "@"),
        ("@::date", "date", "@"),
        ("@::text", "citext", "@::text"),
        ("@::text", "int4", "@::text"),
        ("lower(@::text)::text", "citext", "lower(@)"),
        ("replace(@::text,'a','b')", "citext", "replace(@::text,'a','b')"),
        ("replace(@::text,'a','b')", "char(3)", "replace(@,'a','b')"),
        ("substr(@,2)", "text", "substring(@,2)"),
        ("substring(@,1,3)", "text", "left(@,3)"),
        ("substring(@,0,3)", "text", "substring(@,0,3)"),
        ("char_length(@)", "text", "length(@)"),
        ("btrim(@,' ')", "text", "btrim(@)"),
        ("btrim(@,' .')", "text", "btrim(@,' .')"),
        ("extract('YEARS',@)", "date", "extract('year',@)"),
        ("date_trunc('mon',@::timestamp)", "date", "date_trunc('month',@::timestamp)"),
        (r"regexp_replace(@,'[^[:digit:]]+','','g')", "text", r"regexp_replace(@,'\D','','g')"),
        ("regexp_replace(@,'[^0-9]+','','g')", "text", "regexp_replace(@,'[^0-9]','','g')"),
        ("left(lower(@::text),3)", "varchar", "left(lower(@),3)"),
    ],
)
def test_spellings(text: str, type_name: str, spelling: str) -> None:
    for each in (text, spelling):
        assert write(normal(read(each), type_name)) == spelling


@pytest.mark.parametrize(
    ("text", "type_name", "what"),
    [
        ("@::text", "date", "a cast of date to text is not in the table"),
        ("replace(@,'a','b')", "citext", "write …::text, since over citext it ignores case"),
        ("date_trunc('month',@)", "date", "write …::timestamp"),
        ("extract('year',@)", "timestamptz", "AT TIME ZONE 'UTC'"),
        ("substring(@,1,-3)", "text", "a negative length"),
    ],
)
def test_what_is_no_index(text: str, type_name: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        normal(read(text), type_name)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("extract('year',@)", ["extract('year',@)", "date_part('year',@)"]),
        ("date_part('hour',timezone('UTC',@))", ["date_part('hour',timezone('UTC',@))", "extract('hour',timezone('UTC',@))"]),
        ("extract('year',@)::numeric", ["extract('year',@)", "date_part('year',@)"]),
        ("extract('month',@)::int4", ["extract('month',@)", "date_part('month',@)"]),
        ("extract('year',@)::int4", []),  # fails of what is infinite
        ("extract('year',@)::numeric::int8", []),
        ("date_part('day',@)::numeric::int8", ["date_part('day',@)", "extract('day',@)"]),
        ("extract('year',@)::int2", []),
        ("extract('epoch',@)", []),
        ("extract('second',@)::int4", []),
        ("date_trunc('year',@)", []),
        ("@::int4", []),
        ("@", []),
    ],
)
def test_twins(text: str, same: list[str]) -> None:
    assert [write(other) for other in twins(read(text))] == same


@given(st.dates(), st.sampled_from(sorted(filter(is_whole, FIELDS["date"]))))
def test_twins_have_the_same_equality_form(day: dt.date, field: str) -> None:
    value = day.isoformat().encode()
    exact = transform(f"extract('{field}',@)", "date").apply(value)
    rounded = transform(f"date_part('{field}',@)", "date").apply(value)
    assert exact is not None
    assert rounded is not None
    assert codec(builtin("numeric")).form(exact) == codec(builtin("float8")).form(rounded)
