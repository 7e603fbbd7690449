"""What is taken out of documents."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from tests.fixtures.model import VIEW, planner
from tests.sql.ask import ask


@pytest.mark.parametrize(
    "path",
    [
        "doc #>> '{name,family}'",
        "(doc -> 'name') ->> 'family'",
        "charts.doc['name'] ->> 'family'",
        "doc OPERATOR(pg_catalog.#>>) '{name,family}'::text[]",
        "pg_catalog.jsonb_extract_path_text(doc, 'name', 'family')",
        "CAST((doc->'name'->>'family') AS varchar)",
    ],
)
def test_every_spelling_of_a_path_is_its_index(path: str) -> None:
    server = ask(f"SELECT id FROM charts WHERE {path} = 'x'", VIEW, planner())
    assert "substring(" in server
    assert ", 29, 16)" in server


@pytest.mark.parametrize(
    "path",
    [
        *("doc->>ward", "doc['a':'b']", "doc['a'][ward]"),
        *("doc OPERATOR(public.->>) 'ssn'", "(doc).ssn", "doc #>> NULL", "-doc"),
    ],
)
def test_what_is_no_constant_path_is_refused(path: str) -> None:
    assert ask(f"SELECT id FROM charts WHERE {path} = 'x'", VIEW, planner()) in ("0A000", "42883", "42809", "42804")


def test_an_operator_of_somebodys_own_is_not_the_servers() -> None:
    catalog = dataclasses.replace(planner().catalog, replaced=frozenset({"->>"}))
    own = Planner(planner().protection, catalog, Ciphers(Keyring(lambda: 0.0)))
    assert ask("SELECT id FROM charts WHERE doc->>'ssn' = 'x'", VIEW, own) == "0A000"
    assert "substring(" in ask("SELECT id FROM charts WHERE doc #>> '{ssn}' = 'x'", VIEW, own)


@pytest.mark.parametrize(
    "text", ["SELECT id FROM charts WHERE (ARRAY[ward])[1] = 'x'", "SELECT ('{}'::jsonb)['a'], id FROM charts"]
)
def test_of_an_unprotected_value_everything_passes(text: str) -> None:
    assert ask(text, VIEW, planner()) == text.replace(" charts", ' "public".charts')
