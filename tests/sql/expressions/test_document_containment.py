"""``@>`` in a statement: where it is answered by tags, and where it is left to the engine."""

from __future__ import annotations

import pytest

from tests.fixtures.model import VIEW, planner
from tests.sql.ask import ask, refusal

_ZEROS = "'\\x" + "0" * 32 + "'::bytea"


def _tag(slot: int) -> str:
    return f"NULLIF(pg_catalog.substring(doc, {13 + 16 * slot}, 16), {_ZEROS})"


@pytest.mark.parametrize(
    ("condition", "server"),
    [
        ("doc @> '{\"age\": 1}'", f"({_tag(2)} = $1)"),
        ("(doc) @> ('{\"age\": 1}')::jsonb", f"({_tag(2)} = $1)"),
        ("doc->'name' @> '{\"family\": \"x\"}'", f"({_tag(1)} = $1)"),
        (
            'doc @> \'{"age": 1, "name": {"family": "x"}}\' AND ward = \'A\'',
            f"(({_tag(1)} = $1) AND ({_tag(2)} = $2)) AND ward = 'A'",
        ),
        ("doc->'name' @> $1", f"({_tag(1)} = $1 OR '\\x'::bytea = $2)"),
    ],
)
def test_tags_of_scalars(condition: str, server: str) -> None:
    found = ask(f"SELECT id FROM charts WHERE {condition}", VIEW, planner())
    assert found.partition(" WHERE ")[2].replace("(doc)", "doc").replace("($1)", "$1") == server


@pytest.mark.parametrize(
    "condition",
    [
        "NOT doc @> '{\"age\": 1}'",
        "(doc @> '{\"age\": 1}') IS NOT TRUE",
        "doc @> NULL",
        "doc @> raw::jsonb",
        "'{\"age\": 1}' <@ doc",
        "raw::jsonb @> '{\"age\": 1}'",
        "doc OPERATOR(pg_catalog.@>) '{\"age\": 1}'",
        "doc->'zip' @> '{\"a\": 1}'",
    ],
)
def test_what_is_not_answered(condition: str) -> None:
    assert ask(f"SELECT id FROM charts WHERE {condition}", VIEW, planner()) == "0A000"


def test_a_hint_names_the_index() -> None:
    refused = refusal("SELECT id FROM charts WHERE doc @> '{\"zip\": 1}'", VIEW, planner())
    assert (refused.hint or "").startswith("Add `doc->'zip'` to the indexes of public.charts.doc in the policy")
    assert refused.position == len("SELECT id FROM charts WHERE doc @> ") + 1
