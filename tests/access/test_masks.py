"""Each mask over each type: what is shown is a value of the same type, and holds nothing of what is hidden."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.access.masks import complaint, mask
from phiproxy.access.shows import read_show
from phiproxy.policy.column_types import named_type, parse_type
from phiproxy.types.codecs import codec
from phiproxy.types.styles import Styles

OLDEST = datetime.now(UTC).year - 90


def digest(value: bytes) -> bytes:
    return hmac.digest(b"k" * 32, value, hashlib.sha256)


def shown(show: str, type_name: str, value: str) -> str | None:
    made = mask(read_show(show), parse_type(type_name), digest)(value.encode())
    return None if made is None else made.decode()


@pytest.mark.parametrize(
    ("show", "type_name", "value", "expected"),
    [
        ("null", "text", "x", None),
        ("null", "bytea", "\\x00", None),
        ("fixed(***)", "text", "x", "***"),
        ("fixed()", "varchar(3)", "x", ""),
        ("fixed(ab)", "char(4)", "x", "ab  "),
        ("fixed(1900-01-01)", "date", "2001-02-03", "1900-01-01"),
        ("fixed(0)", "int4", "17", "0"),
        ("fixed({})", "jsonb", '{"a": 1}', "{}"),
        ("fixed({})", "text[]", "{a}", "{}"),
        ("fixed(false)", "bool", "t", "f"),
        ("last(4)", "text", "078-05-1120", "*******1120"),
        ("last(4)", "text", "1120", "****"),
        ("last(4)", "text", "20", "**"),
        ("last(2)", "text", "äöü", "*öü"),
        ("last(4)", "text", "", ""),
        ("first(3)", "varchar(20)", "078-05", "078***"),
        ("partial(1, 2)", "text", "abcdef", "a***ef"),
        ("partial(1, 2)", "text", "abc", "***"),
        ("last(2)", "char(6)", "abcd  ", "**cd  "),
        ("year", "date", "1961-04-17", "1961-01-01"),
        ("year", "date", "0044-03-15 BC", "0044-01-01 BC"),
        ("year", "date", "infinity", "infinity"),
        ("year", "date", "-infinity", "-infinity"),
        ("month", "date", "1961-04-17", "1961-04-01"),
        ("year", "timestamp", "1961-04-17 12:13:14.5", "1961-01-01 00:00:00"),
        ("month", "timestamp", "0044-03-15 12:00:00 BC", "0044-03-01 00:00:00 BC"),
        ("year", "timestamptz", "1961-04-17 12:13:14+00", "1961-01-01 00:00:00+00"),
        ("year", "timestamptz", "0044-03-15 12:00:00+00 BC", "0044-01-01 00:00:00+00 BC"),
        ("year", "timestamptz", "infinity", "infinity"),
        ("year", "timestamptz", "-infinity", "-infinity"),
        ("age90", "date", "2001-02-03", "2001-01-01"),
        ("age90", "date", "1901-02-03", f"{OLDEST}-01-01"),
        ("age90", "date", "0044-03-15 BC", f"{OLDEST}-01-01"),
        ("age90", "timestamp", "1901-02-03 04:05:06", f"{OLDEST}-01-01 00:00:00"),
        ("age90", "int4", "97", "90"),
        ("age90", "int2", "89", "89"),
        ("zip3", "text", "90210-1234", "902"),
        ("zip3", "char(5)", "90210", "902  "),
        ("zip3", "text", "03601", "000"),
        ("zip3", "text", "SW1A 1AA", "000"),
        ("email", "text", "jane@example.org", "j***@***"),
        ("email", "text", "j@example.org", "***"),
        ("email", "text", "nobody", "***"),
        ("email", "varchar(8)", "jane@example.org", "j***@***"),
        ("pseudonym", "text", "x", digest(b"x").hex()[:32]),
        ("pseudonym", "varchar(16)", "x", digest(b"x").hex()[:16]),
        ("pseudonym", "char(20)", "x", digest(b"x").hex()[:20]),
    ],
)
def test_what_is_shown(show: str, type_name: str, value: str, expected: str | None) -> None:
    assert complaint(read_show(show), parse_type(type_name)) is None
    assert shown(show, type_name, value) == expected


@pytest.mark.parametrize(
    ("zone", "value", "expected"),
    [
        ("America/New_York", "2026-01-01 03:00:00+00", "2026-01-01 05:00:00+00"),
        ("Asia/Kolkata", "2025-12-31 20:00:00+00", "2024-12-31 18:30:00+00"),
        ("Europe/Berlin", "2026-07-04 12:00:00+00", "2025-12-31 23:00:00+00"),
        ("Europe/Berlin", "infinity", "infinity"),
    ],
)
def test_a_moment_is_cut_in_utc_and_shown_in_the_zone_of_the_session(zone: str, value: str, expected: str) -> None:
    shown = mask(read_show("year"), parse_type("timestamptz"), styles=Styles(time_zone=zone))
    assert shown(value.encode()) == expected.encode()


TYPES = [
    "text", "varchar(20)", "char(20)", "date", "timestamp", "timestamptz", "int2", "int4", "int8", "uuid", "bool", "bytea", "jsonb",
    "numeric", "interval", "inet", "float8", "time", "text[]",
]  # fmt: skip
MASKS = ["first(3)", "last(4)", "partial(2, 2)", "year", "month", "age90", "zip3", "email", "pseudonym"]
VALUES = {
    "text": "Zorkendorfer 90210", "date": "1961-04-17", "timestamp": "1961-04-17 12:13:14.5",
    "timestamptz": "1961-04-17 12:13:14+00", "int2": "97", "int4": "97", "int8": "97",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
}  # fmt: skip


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("show", MASKS)
def test_it_fits_the_type_in_both_formats_or_is_refused(show: str, type_name: str) -> None:
    declared = parse_type(type_name)
    if complaint(read_show(show), declared) is not None:
        return
    value = VALUES[type_name if type_name in VALUES else "text"]
    own = codec(declared)
    canonical = own.assign(value.encode(), declared.typmod)
    made = mask(read_show(show), declared, digest)(canonical)
    assert made is not None
    assert own.assign(own.from_text(own.to_text(made, Styles.CANONICAL), Styles.CANONICAL), declared.typmod) == made
    assert own.from_binary(own.to_binary(made)) == made
    assert made != canonical


@pytest.mark.parametrize(
    ("show", "type_name"),
    [
        ("last(4)", "date"), ("last(4)", "int4"), ("last(4)", "text[]"), ("year", "text"), ("age90", "text"), ("age90", "numeric"),
        ("zip3", "varchar(2)"), ("email", "varchar(7)"), ("pseudonym", "varchar(15)"), ("pseudonym", "int8"), ("zip3", "int4"),
        ("fixed(x)", "date"), ("fixed(abcd)", "varchar(3)"), ("fixed(40000)", "int2"), ("fixed(x)", "uuid"), ("email", "jsonb"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(show: str, type_name: str) -> None:
    assert complaint(read_show(show), parse_type(type_name)) is not None


@given(st.text(st.characters(exclude_characters="\0*", exclude_categories=["Cs"])), st.integers(0, 9), st.integers(0, 9))
def test_of_what_is_hidden_only_the_length_is_shown(value: str, left: int, right: int) -> None:
    if not left + right:
        return
    made = shown(f"partial({left}, {right})", "text", value)
    assert made is not None
    assert len(made) == len(value)
    kept = sum(one == other for one, other in zip(made, value, strict=True))
    assert kept <= (left + right if len(value) > left + right else 0)


@given(st.dates().map(str))
def test_a_year_says_nothing_of_the_day(value: str) -> None:
    assert shown("year", "date", value) == f"{value[:4]}-01-01"
    made = shown("age90", "date", value)
    assert made is not None
    assert int(made[:4]) == max(int(value[:4]), OLDEST)


@given(st.uuids(), st.uuids())
def test_pseudonyms_of_uuids_are_uuids(one: object, other: object) -> None:
    made = [shown("pseudonym", "uuid", str(value)) for value in (one, other)]
    assert (made[0] == made[1]) == (one == other)
    assert made[0] is not None
    assert codec(named_type("uuid")).from_text(made[0].encode(), Styles.CANONICAL) == made[0].encode()
    assert made[0][14] == "8"
    assert made[0][19] in "89ab"
