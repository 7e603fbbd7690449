"""Patterns of LIKE: which part of a value they ask for, and what each index makes of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.index.characters import Characters
from phiproxy.sql.values.patterns import EVERYTHING, Key, Like, NotAnswered, Part, Syntax, is_everything, read_pattern, read_regex


@pytest.mark.parametrize(
    ("pattern", "escape", "result"),
    [
        ("abc", "\\", ("whole", "abc")),
        ("", "\\", ("whole", "")),
        ("abc%", "\\", ("left", "abc")),
        ("abc%%", "\\", ("left", "abc")),
        ("%abc", "\\", ("right", "abc")),
        ("%%é", "\\", ("right", "é")),
        (r"a\%\_\\", "\\", ("whole", r"a%_" + "\\")),
        (r"a\%%", "\\", ("left", "a%")),
        (r"\a\b", "\\", ("whole", "ab")),
        (r"a\b", "", ("whole", r"a\b")),
        ("a!%!!%", "!", ("left", "a%!")),
        ("%", "\\", None),
        ("%%", "\\", None),
        ("%a%", "\\", None),
        ("a%b", "\\", None),
        ("a_", "\\", None),
        ("_%", "\\", None),
        ("a\\", "\\", None),
        ("a%\\", "\\", None),
    ],
)
def test_a_like_pattern_is_a_whole_value_or_one_end_of_it(pattern: str, escape: str, result: tuple[str, str] | None) -> None:
    assert read_pattern(pattern.encode(), escape) == result


TEXTS = st.text(alphabet="aA%_\\!é", max_size=6)


def matches(value: str, pattern: str, escape: str) -> bool:
    """LIKE as the manual says it, by a regular expression."""
    characters = iter(pattern)
    special = {"%": ".*", "_": "."}
    parts = [re.escape(next(characters)) if c == escape else special.get(c, re.escape(c)) for c in characters]
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


@given(TEXTS, TEXTS, st.sampled_from(["\\", "!", ""]))
def test_a_part_is_exactly_what_the_pattern_matches(value: str, pattern: str, escape: str) -> None:
    result = read_pattern(pattern.encode(), escape)
    if result is None:
        return
    part, text = result
    own = {"whole": value, "left": value[: len(text)], "right": value[max(len(value) - len(text), 0) :]}[part]
    assert (own == text) == matches(value, pattern, escape)


@pytest.mark.parametrize(
    ("pattern", "result"),
    [
        ("^abc", ("left", "abc")),
        ("^abc$", ("whole", "abc")),
        ("^$", ("whole", "")),
        (r"^a\.b\$", ("left", "a.b$")),
        (r"^a\\b$", ("whole", "a\\b")),
        ("^Ünï-1 %_", ("left", "Ünï-1 %_")),
        ("abc", None),
        ("^a.c", None),
        ("^ab*", None),
        ("^a|b", None),
        ("^(a)", None),
        (r"^a\d", None),
        (r"^a\y", None),
        ("^a$b", None),
        ("^[a]", None),
        ("^a{2}", None),
        ("***=^a", None),
        ("(?n)^a", None),
        ("^a\\", None),
    ],
)
def test_an_anchored_regular_expression_is_read_as_a_prefix(pattern: str, result: tuple[str, str] | None) -> None:
    assert read_regex(pattern.encode()) == result


@pytest.mark.parametrize(
    ("pattern", "syntax", "all_of_them"),
    [
        (b"%", "like", True),
        (b"%%%", "like", True),
        (b"", "like", False),
        (b"%a", "like", False),
        (b"_", "like", False),
        (b"", "prefix", True),
        (b"%", "prefix", False),
        (b"", "regex", True),
        (b"^", "regex", True),
        (b"^$", "regex", False),
    ],
)
def test_what_every_value_matches(pattern: bytes, syntax: Syntax, all_of_them: bool) -> None:
    assert is_everything(pattern, syntax, "\\") is all_of_them


def test_a_wildcard_that_escapes_is_none() -> None:
    assert not is_everything(b"%%", "like", "%")
    assert is_everything(b"%%", "like", "")


def test_where_everything_matches_no_index_is_asked() -> None:
    answered: frozenset[Key] = frozenset({("whole", 0), EVERYTHING})
    whole, everything = (Like(part, answered, False, "\\", "@", "n", "t.n") for part in (("whole", 0), EVERYTHING))
    assert [whole.tag(p, bytes.upper) for p in (b"ab", b"%%")] == [b"AB", None]
    assert [everything.tag(p, bytes.upper) for p in (b"ab", b"%%")] == [None, b""]
    with pytest.raises(NotAnswered):
        like("whole", 0).tag(b"%", bytes.upper)


def test_a_prefix_has_no_wildcards() -> None:
    built = [
        Like((part, n), frozenset({("whole", 0), ("left", 3)}), False, "", "@", "n", "t.n", syntax="prefix") for part, n in PARTS
    ]
    assert [one.subject(b"a%_") for one in built] == [None, b"a%_"]
    for pattern in (b"", b"ab"):
        with pytest.raises(NotAnswered):
            built[0].subject(pattern)


PARTS: tuple[Key, ...] = (("whole", 0), ("left", 3))


def like(part: Part, count: int, *, fold: bool = False) -> Like:
    answered: frozenset[Key] = frozenset({("whole", 0), ("left", 3)})
    return Like((part, count), answered, fold, "\\", "lower(@)" if fold else "@", "name", "public.people.name")


def test_one_index_answers_and_the_others_do_not() -> None:
    assert (like("whole", 0).subject(b"abc"), like("left", 3).subject(b"abc")) == (b"abc", None)
    assert (like("whole", 0).subject(b"abc%"), like("left", 3).subject("éöü%".encode())) == (None, "éöü".encode())
    assert like("left", 3, fold=True).subject(b"AbC%") == b"abc"


@pytest.mark.parametrize(
    ("pattern", "escape", "subject"),
    [
        (r"A\%B%", "\\", "a%b"),
        ("AX%X%%", "X", "a%%"),
        (r"A\B%", "!", "a\\b"),
        ("ÄÖÜ%", "\\", "äöü"),
        (r"A\!!%", "!", r"a\!"),
    ],
)
def test_ilike_folds_what_the_pattern_says_literally(pattern: str, escape: str, subject: str) -> None:
    like = Like(("left", 3), frozenset({("whole", 0), ("left", 3)}), True, escape, "lower(@)", "n", "t.n", Characters("simple"))
    assert like.subject(pattern.encode()) == subject.encode()


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [(b"ab%", "`left(name,2)`"), (b"%ab", "`right(name,2)`"), (b"a_", "a prefix ('abc%')"), (b"%", "a prefix ('abc%')")],
)
def test_what_none_answers_is_refused_with_the_index_that_would(pattern: bytes, hint: str) -> None:
    with pytest.raises(NotAnswered) as refused:
        like("whole", 0).subject(pattern)
    assert refused.value.sqlstate == "0A000"
    assert hint in (refused.value.hint or "")


def test_a_pattern_that_is_a_parameters_is_refused_as_one_that_is_a_literal() -> None:
    """Under the same anchor, which says what an index takes."""
    like = Like(("left", 3), frozenset({("left", 3)}), fold=False, escape="\\", over="@", column="c", owner="t.c")
    with pytest.raises(NotAnswered) as refused:
        like.subject(b"ab%")
    assert (refused.value.sqlstate, refused.value.anchor) == ("0A000", "err-no-index")
    waiting = Like(("left", 3), frozenset({("left", 3)}), False, "\\", "@", "c", "t.c", waiting=frozenset({"left(@,2)"}))
    with pytest.raises(NotAnswered) as refused:
        waiting.subject(b"ab%")
    assert "is there and answers nothing yet" in (refused.value.hint or "")
