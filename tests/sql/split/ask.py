"""Asks how a statement is split, of the fixtures' clinic without a database."""

from __future__ import annotations

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused, Rest, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from tests.fixtures.cases import Case
from tests.fixtures.model import VIEW, planner


def split_of(text: str, since: int = 15, types: tuple[int, ...] = ()) -> Split | None:
    """Return how a statement is split that is refused; AssertionError for one that is not."""
    there, encoded = planner(since), text.encode()
    known = there.ciphers.default_text
    context = Context(there.protection, there.catalog, VIEW.path, VIEW.database, declared=types, default_text=known)
    (statement,) = parse(encoded)
    outcome = analyse(statement, encoded, context)
    assert isinstance(outcome, Refused), "it is answered"
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, encoded, context, outcome.error)


def is_split(case: Case) -> bool:
    """Whether a fixture that is refused without an engine is answered by one."""
    if case.rest:
        return True
    text, _ = case.with_values(lambda word: f"Zoë-{word}-9")
    try:
        return split_of(text, 15, case.types) is not None
    except AssertionError:
        return False


def shown(rest: Rest) -> str:
    """Return a rest with {} for the source."""
    return b"{}".join(rest.parts).decode()
