"""The spelling that the registry keeps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.errors import ConfigError
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read, write


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("@", Column()),
        ("lower(@)", Call("lower", (Column(),))),
        ("left(lower(@),3)", Call("left", (Call("lower", (Column(),)), Constant(3)))),
        ("left(@,-3)", Call("left", (Column(), Constant(-3)))),
        ("extract('year',@)", Call("extract", (Constant("year"), Column()))),
        ("btrim(@,'''.')", Call("btrim", (Column(), Constant("'.")))),
        ("date_trunc('month',@::timestamp)", Call("date_trunc", (Constant("month"), Cast(Column(), "timestamp")))),
        (r"regexp_replace(@,'\D','','g')", Call("regexp_replace", (Column(), *map(Constant, (r"\D", "", "g"))))),
    ],
)
def test_one_spelling(text: str, expression: Expression) -> None:
    assert read(text) == expression
    assert write(expression) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lower( @)",
        "LOWER(@)",
        "lower(@",
        "lower(@))",
        "lower()",
        "left(@,03)",
        "left(@,+3)",
        "@ ",
        "@::",
        "@::'x'",
        "@@",
        "'a",
        "name",
    ],
)
def test_anything_else_is_unreadable(text: str) -> None:
    with pytest.raises(ConfigError, match="is not spelled as"):
        read(text)


_names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
_trees: st.SearchStrategy[Expression] = st.recursive(
    st.just(Column()) | st.builds(Constant, st.integers() | st.text()),
    lambda inner: st.builds(Cast, inner, _names) | st.builds(Call, _names, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    max_leaves=6,
)


@settings(derandomize=True, database=None)
@given(_trees)
def test_what_is_written_is_read(expression: Expression) -> None:
    assert read(write(expression)) == expression
