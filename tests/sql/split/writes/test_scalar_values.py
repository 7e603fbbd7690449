"""Which expressions surely give scalars."""

from __future__ import annotations

import pytest

from phiproxy.sql.split.writes.scalar_values import Scalars
from phiproxy.sql.text.parse import Node, only, parse, strings
from tests.clinic_model import SIGNATURES

_SCALARS = Scalars(SIGNATURES, frozenset({"ssn"}))


def _are(expression: str) -> bool:
    (statement,) = parse(f"SELECT {expression}".encode())
    node: Node = only(statement.body["targetList"][0])[1]["val"]
    return _SCALARS.are(node, lambda body: len(strings(body["fields"])) == 1)


SCALARS = [
    "ssn", "upper(ssn)", "ssn || 'x'", "doc->>'a'", "doc #>> '{a,b}'", "p.x::text", "length(ssn) + 1", "coalesce(ssn, 'a')",
    "CASE WHEN p.x THEN ssn ELSE 'b' END", "greatest(ssn, 'a')", "doc::pg_catalog.text",
]  # fmt: skip
OTHERS = [
    "doc", "p.ssn", "doc->'a'", "doc || '{}'", "upper(p.r)", "to_jsonb(ssn)", "ssn::jsonb", "jsonb_build_object(ssn, 1)", "$1",
    "CASE WHEN p.x THEN ssn ELSE p.x END", "ssn::other.text", "(SELECT ssn)", "ROW(ssn)", "own(ssn)", "coalesce(ssn, p.x)",
]  # fmt: skip


@pytest.mark.parametrize("expression", SCALARS)
def test_what_gives_scalars(expression: str) -> None:
    assert _are(expression)


@pytest.mark.parametrize("expression", OTHERS)
def test_what_may_have_keys_or_is_not_known(expression: str) -> None:
    assert not _are(expression)
