"""COLLATE: taken away where it changes nothing, refused where it may, left alone beside what is not protected."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, tag


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("""ssn COLLATE "C" = $1""", f"{tag('ssn')}  = $1"),
        ("""ssn = $1 COLLATE "C" AND id = 1""", f"{tag('ssn')} = $1  AND id = 1"),
        ("""ssn COLLATE "C" IS NULL""", "ssn  IS NULL"),
        ("""city COLLATE "POSIX" = 'x'""", """city COLLATE "POSIX" = 'x'"""),
    ],
)
def test_a_deterministic_collation_changes_nothing(condition: str, answer: str) -> None:
    assert ask(f"SELECT id FROM public.patients WHERE {condition}") == f"SELECT id FROM public.patients WHERE {answer}"


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("""ssn COLLATE "nosuch" = $1""", "42704"),
        ("""ssn COLLATE "C" = $1 COLLATE "POSIX\"""", "42P21"),
        ("""ssn COLLATE "C" < $1""", "0A000"),
    ],
)
def test_other_collations_are_refused(condition: str, code: str) -> None:
    assert ask(f"SELECT id FROM public.patients WHERE {condition}") == code
