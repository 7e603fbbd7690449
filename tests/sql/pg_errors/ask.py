"""One refused statement to what PostgreSQL would say of it, on the fixtures' clinic."""

from __future__ import annotations

import dataclasses

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Context
from phiproxy.sql.pg_errors.verdict import rejection
from phiproxy.sql.text.parse import parse
from tests.clinic_model import PATH
from tests.fixtures.model import planner

_PLANNER = planner()
CONTEXT = Context(_PLANNER.protection, _PLANNER.catalog, PATH, "clinic")
UNKNOWN = dataclasses.replace(CONTEXT, catalog=dataclasses.replace(_PLANNER.catalog, signatures=None))


def verdict(text: str, context: Context = CONTEXT) -> StatementRefused | None:
    """Return the verdict on the last statement of a text."""
    return rejection(parse(text.encode())[-1], text.encode(), context)


def said(text: str) -> tuple[str, str, str] | None:
    """Return SQLSTATE, words, and what stands at the position."""
    error = verdict(text)
    if error is None:
        return None
    assert error.position is not None
    return (
        error.sqlstate,
        error.message,
        text[error.position - 1 :].split(maxsplit=1)[0].rstrip(";").removesuffix(",").removesuffix(")"),
    )
