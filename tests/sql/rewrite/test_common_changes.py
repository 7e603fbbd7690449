"""Decisions become spans: literals in every spelling, casts in every form, comments blanked."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, tag

WHERE = "SELECT id FROM public.patients WHERE ssn = "


@pytest.mark.parametrize(
    "literal",
    ["'x'", "E'a\\nb'", "$$a'b$$", "$q$x$q$", "U&'d\\0061'", "U&'d!0061' UESCAPE '!'", "'a'\n  'b'", "'é😀'"],
)
def test_literals(literal: str) -> None:
    expected = WHERE.replace("ssn = ", f"{tag('ssn')} = ") + "$1 AND true"
    assert ask(f"{WHERE}{literal} AND true") == expected


@pytest.mark.parametrize(
    ("cast", "server"),
    [
        ("'x'::text", "$1"),
        ("'x' :: pg_catalog.varchar", "$1 "),
        ("CAST('x' AS character varying)", "($1 )"),
        ("CAST(CAST('x' AS text) AS varchar)", "(($1 ) )"),
        ("text 'x'", " $1"),
        ("('x'::text)::varchar", "($1)"),
    ],
)
def test_casts_are_taken_away(cast: str, server: str) -> None:
    assert ask(WHERE + cast) == WHERE.replace("ssn = ", f"{tag('ssn')} = ") + server


def test_comments_are_blanked_but_for_hints_and_sqlcommenter() -> None:
    client = "SELECT /*+ SeqScan(p) */ id /* é 123 */ FROM public.patients p -- 456\n/*action='x',framework='django'*/"
    server = ask(client.replace("id", "ssn", 1))
    assert "/*+ SeqScan(p) */" in server
    assert "/*framework='django'*/" in server
    assert "action" not in server
    assert "123" not in server
    assert "456" not in server
    assert server.count("\n") == 1


def test_a_hint_that_holds_a_protected_value_is_blanked_too() -> None:
    assert "123" not in ask("SELECT id FROM public.patients /*+ 123 */ WHERE ssn = '123'")
