"""The rest's text and positions, and how a session's settings are told to the engine."""

from __future__ import annotations

import pytest

from phiproxy.engine.rest import Rest, Session, set_statements


def test_positions_are_of_the_parts_alone() -> None:
    rest = Rest(("ä, ".encode(), b" + ", b" + x"))
    source = "(é)".encode()
    text = rest.text(source).decode()
    assert text == "ä, (é) + (é) + x"
    found = [rest.position(n, source) for n in range(1, len(text) + 1)]
    joined = b"".join(rest.parts).decode()
    shown = "".join(joined[n - 1] if n is not None else "." for n in found)
    assert shown == "ä, ... + ... + x"


def test_a_rest_without_a_source() -> None:
    rest = Rest((b"SELECT 1",))
    assert rest.text(b"anything") == b"SELECT 1"
    assert rest.position(5, b"anything") == 5


def test_only_what_changes_is_set() -> None:
    before = {"timezone": "UTC", "datestyle": "ISO, MDY"}
    assert set_statements(before, before) == []
    assert set_statements(before, {"timezone": "UTC"}) == [b"SET datestyle TO DEFAULT"]
    said = set_statements({}, {"timezone": "Zürich'; \\"})
    assert said == [rb"SET timezone TO E'Z\U000000fcrich\U00000027; \U0000005c'"]


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ('"$user", public', "E'$user', E'public'"),
        ('Ward, "Ward", "a""b, c"', "E'ward', E'Ward', E'a\"b, c'"),
        ("", "''"),
        ('""', "E''"),
        ("é", r"E'\U000000e9'"),
    ],
)
def test_a_search_path_is_a_list_of_names(shown: str, names: str) -> None:
    assert set_statements({}, {"search_path": shown}) == [f"SET search_path TO {names}".encode()]


def test_what_is_no_list_of_names_is_not_sent() -> None:
    with pytest.raises(ValueError, match="no list of names"):
        set_statements({}, {"search_path": 'public; SET "x'})


def test_only_what_is_mirrored_is_taken() -> None:
    with pytest.raises(ValueError, match="not mirrored: log_statement"):
        Session({"log_statement": "all", "timezone": "UTC"})
