"""The paths of fields: how they are read, and that they have one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.documents.field_paths import ELEMENTS, Path, parse_path, spell_path

STEPS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8))


@pytest.mark.parametrize(
    ("text", "path", "spelled"),
    [
        ("$.ssn", ("ssn",), "$.ssn"),
        ("$.name.family", ("name", "family"), "$.name.family"),
        ('$."a b"."c"', ("a b", "c"), '$."a b".c'),
        (r'$."\u00e9\"\\"', ('é"\\',), r'$."é\"\\"'),
        ("$.history[*].note", ("history", ELEMENTS, "note"), "$.history[*].note"),
        ("$[*][*]", (ELEMENTS, ELEMENTS), "$[*][*]"),
        ('$.""', ("",), '$.""'),
    ],
)
def test_paths(text: str, path: Path, spelled: str) -> None:
    assert parse_path(text) == path
    assert spell_path(path) == spelled


@given(st.lists(STEPS, min_size=1, max_size=6))
def test_what_is_spelled_is_read_as_the_same(steps: list[str | None]) -> None:
    assert parse_path(spell_path(tuple(steps))) == tuple(steps)


_NONE = [
    "",
    "ssn",
    "$",
    "$ssn",
    "$.",
    "$..a",
    "$.a b",
    "$.a[0]",
    "$.a[*",
    "$.*",
    "$.**",
    "$.a?(@ > 1)",
    r'$."\u0000"',
    '$."\ud800"',
]


@pytest.mark.parametrize("text", _NONE)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|whole document"):
        parse_path(text)
