"""The regular expressions that are taken mean in ``re`` what they mean in PostgreSQL; the others are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from phiproxy.policy.regular_expressions import PatternRefused, like, regular_expression
from tests.harness.server import PostgresServer

_CHARACTERS = "ab1-. _^]$é\n\\"
_atoms = st.sampled_from(
    ["a", "b", "1", "-", ".", r"\.", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\-", r"\n", "[ab]", "[^ab]", "[a-z]", "[]a]",
     "[^]a]", "[a-]", "[-a]", r"[\d_]", r"[^\w]", r"[a\]]", "[[:alpha:]]", "[[:digit:]-]", "[^[:space:]]", "[[:punct:]]", "é", "]",
     "}", " ", "^", "$", "\n", "[[:upper:]é]", r"[\\]", "[$^.]", "[^^]"]
)  # fmt: skip
_quantifiers = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?", "{0}", "{3}?"])


Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def conn(postgres_server: PostgresServer) -> Iterator[Connection]:
    with postgres_server.connect() as found:
        yield found


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bracketed = st.builds(lambda a, q: f"({a}){q}", inner, _quantifiers) | st.builds(lambda a: f"(?:{a})", inner)
    return st.builds("".join, st.lists(inner | bracketed, min_size=1, max_size=3)) | st.builds("{}|{}".format, inner, inner)


_patterns = st.recursive(st.builds("{}{}".format, _atoms, _quantifiers), _grown, max_leaves=6)
_noise = st.text("ab(){}[]|*+?.^$\\d1,-:", max_size=6)
_values = st.lists(st.text(_CHARACTERS, max_size=6), min_size=1, max_size=8)


def _asked(conn: Connection, operator: str, pattern: str, values: list[str]) -> list[object]:
    query = f"SELECT v {operator} %s FROM unnest(%s::text[]) WITH ORDINALITY u (v, n) ORDER BY n"
    return [found for (found,) in conn.execute(query.encode(), (pattern, values)).fetchall()]


@settings(
    derandomize="PHIPROXY_EXPLORE" not in os.environ,
    max_examples=int(os.environ.get("PHIPROXY_EXPLORE", "0")) * 100 or 150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.one_of(_patterns, _noise), _values, st.booleans())
def test_the_same_answers_as_postgresql(conn: Connection, pattern: str, values: list[str], ignore_case: bool) -> None:
    try:
        found = regular_expression(pattern, ignore_case=ignore_case)
    except PatternRefused:
        return
    told = _asked(conn, "~*" if ignore_case else "~", pattern, values)
    for value, theirs in zip(values, told, strict=True):
        assert not found.judges(value) or found.matches(value) is theirs, (pattern, value)


@settings(derandomize=True, max_examples=80, deadline=None, database=None)
@given(st.text("a_%\\1é\n", max_size=6), _values)
def test_like(conn: Connection, pattern: str, values: list[str]) -> None:
    try:
        found = like(pattern)
    except PatternRefused:
        return
    told = _asked(conn, "LIKE", pattern, values)
    assert told == [found.matches(value) for value in values]


@pytest.mark.parametrize(
    "pattern",
    ["a**", "*a", "a|", "(", ")", "(a", "[a", "[", "a{2", "{", r"\1", r"\m", r"\y", "\\", "(?i)a", "(?=a)", "***=a", "[[.a.]]",
     "[[=a=]]", "[b-a]", "a{300}", "a{2,1}", "(a*)*", "(a|b)+", "(a?){2}", "a*b*c*d*e*", r"[\D]", "[a-b-c]", "^*", "a{1}{2}",
     "[[:nope:]]", ""]
)  # fmt: skip
def test_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        regular_expression(pattern)


def test_what_is_not_judged() -> None:
    assert not regular_expression(r"\d").judges("é")
    assert regular_expression("é").judges("é")
    assert not regular_expression("a*b*c").judges("a" * 5000)
    assert regular_expression("a*b").judges("a" * 5000)
    with pytest.raises(PatternRefused):
        regular_expression("é", ignore_case=True)
    with pytest.raises(PatternRefused):
        regular_expression("[[:upper:]]", ignore_case=True)


def test_another_escape_character() -> None:
    assert like("a!%", "!").matches("a%")
    assert not like("a!%", "!").matches("ab")
    assert like("a\\%", "").matches("a\\b")
    for pattern, escape in (("a!", "!"), ("%a%b%c%d%e%", "\\")):
        with pytest.raises(PatternRefused):
            like(pattern, escape)
