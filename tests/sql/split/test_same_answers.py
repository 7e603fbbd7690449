"""Functions that an engine answers as the server does, by the signatures of a real server."""

from __future__ import annotations

import pytest

from phiproxy.sql.split.same_answers import is_settled, means_clock
from tests.clinic_model import SIGNATURES


def settled(name: str) -> set[bool]:
    return {is_settled(name, f) for f in SIGNATURES.parts[0].functions[name]}


@pytest.mark.parametrize(
    "name", ["lower", "max", "string_agg", "to_char", "json_agg", "array_agg", "rank", "date_trunc", "concat", "pg_typeof"]
)
def test_settled(name: str) -> None:
    assert settled(name) == {True}


@pytest.mark.parametrize(
    "name",
    [
        "now",
        "random",
        "nextval",
        "current_setting",
        "to_regclass",
        "pg_get_viewdef",
        "version",
        "query_to_xml",
        "pg_sleep",
        "txid_current",
    ],
)
def test_not_settled(name: str) -> None:
    assert settled(name) == {False}


def test_nothing_volatile_is_settled() -> None:
    functions = [(name, f) for name, of in SIGNATURES.parts[0].functions.items() for f in of if f.volatile == "v"]
    assert len(functions) > 100
    assert not any(is_settled(name, f) for name, f in functions)


@pytest.mark.parametrize(
    ("text", "clock"),
    [("today", True), ("TOMORROW 10:00", True), ("{now,x}", True), ("snow", False), ("nowhere", False), ("now10", True)],
)
def test_clock_words(text: str, clock: bool) -> None:
    assert means_clock(text) is clock
