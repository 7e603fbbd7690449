"""Conditions as SQL mean what they say as data."""

from __future__ import annotations

import pytest

from phiproxy.policy.check_evaluation import condition, written
from phiproxy.policy.condition_sql import condition_sql
from tests.harness.server import PostgresServer

CONDITIONS = [
    (["<>", ["value"], ["constant", ""]], "text"),
    (["or", ["=", ["value"], ["constant", "it's \\ a"]], ["null", ["value"]]], "text"),
    (["not", ["or", ["=", ["value"], ["constant", "a"]], ["=", ["value"], ["constant", "b"]]]], "text"),
    (["and", ["<", ["length", ["value"]], ["constant", 4]], ["~", ["value"], "^[a-z']+"]], "text"),
    (["~~", ["upper", ["value"]], "A!%%", "!"], "text"),
    (["!~~", ["btrim", ["value"], ["constant", " x"]], "a_"], "text"),
    (["=", ["index", "left(@,2)", "text", ["value"]], ["constant", "ab"]], "text"),
    (["distinct", ["=", ["value"], ["constant", "a"]], ["constant", True]], "text"),
    ([">", ["number", ["value"]], ["number", ["constant", "1.5"]]], "numeric"),
    ([">=", ["number", ["value"]], ["constant", -3]], "int4"),
    (["<", ["day", ["value"]], ["day", ["constant", "2000-01-01"]]], "date"),
    ([">", ["number", ["index", "extract('year',@)", "date", ["value"]]], ["constant", 1999]], "date"),
    (["<=", ["moment", ["value"]], ["moment", ["constant", "2000-01-01 12:00:00"]]], "timestamp"),
    (["<", ["double", ["value"]], ["double", ["constant", "2.5"]]], "float8"),
    (["=", ["truth", ["value"]], ["truth", ["constant", "t"]]], "bool"),
]
VALUES = {
    "text": ["", "a", "b", "ab", "it's \\ a", "a%b", " xa", "abcd"],
    "numeric": ["1.5", "1.50", "2", "-1"],
    "int4": ["-4", "-3", "7"],
    "date": ["1999-12-31", "2000-01-01"],
    "timestamp": ["2000-01-01 12:00:00", "2000-01-01 12:00:01"],
    "float8": ["2.5", "2.4"],
    "bool": ["t", "f"],
}


@pytest.mark.parametrize(("tree", "type_name"), CONDITIONS)
def test_the_server_agrees(postgres_server: PostgresServer, tree: list[object], type_name: str) -> None:
    text = written(tree)
    evaluate, sql = condition(text), condition_sql(text, "v")
    with postgres_server.connect() as conn:
        for value in [*VALUES[type_name], None]:
            query = f"SELECT {sql} FROM (SELECT %s::{type_name} AS v) t"
            found = conn.execute(query.replace("%", "%%").replace("%%s", "%s").encode(), (value,)).fetchone()
            assert found == (evaluate(value),), (sql, value)


@pytest.mark.parametrize("text", [b'{"condition": ["value"], "version": 9}', b'{"condition": ["eval", "x"], "version": 1}'])
def test_what_is_no_condition_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="condition"):
        condition_sql(text, "v")


def test_a_condition_reads_as_it_was_written() -> None:
    assert condition_sql(written(["<>", ["value"], ["constant", ""]]), "ssn") == "(ssn <> '')"
