"""Passes over one statement: the outcome is an answer or a refusal, and the client's tree stays what it was."""

from __future__ import annotations

import copy

from phiproxy.errors import CatalogNeeded, PathNeeded, SyntaxRefused
from phiproxy.sql.context import Context
from phiproxy.sql.passes import PASSES, analyse
from phiproxy.sql.result import Answered, Refused
from phiproxy.sql.text.parse import parse
from tests.fixtures.cases import CASES
from tests.fixtures.model import VIEW as FIXTURE_VIEW
from tests.fixtures.model import planner


def outcomes(text: str, since: int = 0) -> list[object]:
    """Return what becomes of each statement of a text; the trees are compared with what they were."""
    there = planner(since)
    context = Context(there.protection, there.catalog, FIXTURE_VIEW.path, FIXTURE_VIEW.database)
    becomes: list[object] = []
    for statement in parse(text.encode()):
        parsed = copy.deepcopy(statement)
        try:
            becomes.append(analyse(statement, text.encode(), context))
        except (PathNeeded, CatalogNeeded) as needed:
            becomes.append(needed)
        assert statement == parsed, text
    return becomes


def test_the_tree_stays_as_it_was_parsed() -> None:
    """Also of a statement that is refused half-way: PostgreSQL's own words for it are looked for in the tree."""
    kinds: set[type] = set()
    for case in CASES:
        statement, _ = case.with_values(lambda word: f"Zoë-{word}-9")
        try:
            kinds |= set(map(type, outcomes(statement, case.since)))
        except SyntaxRefused:
            continue
    assert {Answered, Refused} <= kinds


def test_every_pass_says_what_it_does() -> None:
    assert all(step.__doc__ for step in PASSES)
    assert len({step.__name__ for step in PASSES}) == len(PASSES)
