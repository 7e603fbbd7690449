"""ON CONFLICT on protected columns."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, refusal, tag

T = '"public".patients'


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("(ssn) DO NOTHING", f"({tag('ssn')}) DO NOTHING"),
        ("(city, ssn) WHERE active DO NOTHING", f"(city, {tag('ssn')}) WHERE active DO NOTHING"),
        ("((upper(city)), (ssn)) DO NOTHING", f"((upper(city)), ({tag('ssn')})) DO NOTHING"),
        ("(full_name,ssn) DO NOTHING", f"({tag('full_name')},{tag('ssn')}) DO NOTHING"),
        ("(ssn) DO UPDATE SET ssn = EXCLUDED.ssn", f"({tag('ssn')}) DO UPDATE SET ssn = EXCLUDED.ssn"),
        ("DO NOTHING", "DO NOTHING"),
    ],
)
def test_the_target_is_the_tag_of_a_protected_column(client: str, server: str) -> None:
    head = f"INSERT INTO {T} (ssn, city) VALUES ($1, 'x') ON CONFLICT "
    assert ask(head + client) == head + server


@pytest.mark.parametrize(
    "target", ["(lower(ssn))", "(notes, (lower(ssn)))", "(ssn text_pattern_ops)", "((ssn || city))", '(ssn COLLATE "C")']
)
def test_a_target_without_an_index_on_tags_is_refused(target: str) -> None:
    said = refusal(f"INSERT INTO {T} (ssn) VALUES ('x') ON CONFLICT {target} DO NOTHING")
    assert said.sqlstate == "0A000"
    assert said.hint
