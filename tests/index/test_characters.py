"""Upper and lower case, and digits, by the tables of the package."""

# ruff: noqa: RUF001

import pytest

from phiproxy.index.characters import ASCII, FAMILIES, Characters, UnknownCharacter, character_table, parse_table
from tools.character_tables import write_table


def test_nothing_known_but_ascii() -> None:
    assert (ASCII.lower(b"Smith 1"), ASCII.upper(b"Smith 1"), ASCII.digits(b"Smith 1")) == (b"smith 1", b"SMITH 1", b"1")
    for of in (ASCII.lower, ASCII.upper, ASCII.digits):
        with pytest.raises(UnknownCharacter) as refused:
            of("Ä".encode())
        assert refused.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    ("family", "value", "lower", "upper", "digits"),
    [
        ("ascii", "Äß1٣", "Äß1٣", "Äß1٣", "1"),
        ("simple", "Äß1٣", "äß1٣", "Äß1٣", "1"),
        ("simple", "ΑΣ", "ασ", "ΑΣ", ""),
        ("simple", "İ", "i", "İ", ""),
        ("icu", "Äß1٣", "äß1٣", "ÄSS1٣", "1٣"),
        ("icu", "ΑΣ ΑΣΑ Σ", "ας ασα σ", "ΑΣ ΑΣΑ Σ", ""),
        ("icu", "ΑΣ'Α ΑΣ' Α", "ασ'α ας' α", "ΑΣ'Α ΑΣ' Α", ""),
        ("icu", "İ\ufb01", "i\u0307\ufb01", "İFI", ""),
    ],
)
def test_families(family: str, value: str, lower: str, upper: str, digits: str) -> None:
    found, text = Characters(family), value.encode()
    assert (found.lower(text).decode(), found.upper(text).decode(), found.digits(text).decode()) == (lower, upper, digits)


def test_a_character_of_which_the_server_says_otherwise() -> None:
    found = Characters("simple", frozenset({0xC4}))
    assert found.lower("Öa".encode()) == "öa".encode()
    with pytest.raises(UnknownCharacter, match="another way than phiproxy's tables") as refused:
        found.lower("xÄ".encode())
    assert "Ä" not in str(refused.value)
    turkish = Characters("simple", frozenset(map(ord, "Ii")))
    assert turkish.upper(b"abc") == b"ABC"
    with pytest.raises(UnknownCharacter):
        turkish.upper(b"Ali")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_form_of_the_files(family: str) -> None:
    table = character_table(family)
    again = parse_table("# a comment\n" + write_table(table))
    assert again == table
    assert again.digests == table.digests
    assert set(table.digests) == {"all", "assigned"}


def test_no_other_family() -> None:
    with pytest.raises(ValueError, match="there is no family"):
        character_table("../simple")
