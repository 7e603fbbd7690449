"""Comparisons of terms: by tags where one of the values is protected, here or elsewhere in the statement.

citext beside texts: an index on the column as a text answers, or none does; on data in ``integration/test_own_types.py``.
"""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.protection import DeclaredType, Slot
from phiproxy.policy.user_types import OwnType
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import VIEW, ask, refusal, tag

SELECT = 'SELECT id FROM "public".patients WHERE '


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("ssn = NULL", f"{tag('ssn')} = NULL"),
        ("NULL = ssn", f"NULL = {tag('ssn')}"),
        ("ssn <> NULL", f"{tag('ssn')} <> NULL::bytea"),
        ("ssn OPERATOR(pg_catalog.=) NULL", f"{tag('ssn')} OPERATOR(pg_catalog.=) NULL::bytea"),
        ("ssn = NULL::text", f"{tag('ssn')} = NULL::bytea"),
        ("ssn IN (NULL, 'x')", f"{tag('ssn')} IN (NULL::bytea, $1)"),
    ],
)
def test_a_null_beside_an_equals_sign_stays_for_transform_null_equals(client: str, server: str) -> None:
    assert ask(SELECT + client) == SELECT + server


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("$1 = 'x'", "$1 = 'x'"),
        ("$1 = 'x' AND ssn = $1", f"$1 = $2 AND {tag('ssn')} = $1"),
        ("'y' = 'x' AND ssn = 'x'", f"$1 = $2 AND {tag('ssn')} = $2"),
        ("$1 = $2 AND $2 = $3 AND ssn = $3", f"$1 = $2 AND $2 = $3 AND {tag('ssn')} = $3"),
    ],
)
def test_given_values_are_compared_by_tags_once_one_is_protected_elsewhere(client: str, server: str) -> None:
    assert ask(SELECT + client) == SELECT + server


ANY_PATIENT = "SELECT 1 FROM patients WHERE "
OWN, TEXT = "pg_catalog.substring(ssn, 13, 16)", "pg_catalog.substring(ssn, 29, 16)"


def with_citext(*, indexed: bool = True) -> Planner:
    """Return a planner whose ``ssn`` is citext, perhaps with an index on it as a text."""
    table = PROTECTION.by_name["public", "patients"]
    slots = (Slot(0, "@", 1, "active"), Slot(1, "@::text", 1, "active" if indexed else "building"))
    ssn = dataclasses.replace(table.columns["ssn"], type=DeclaredType("public.citext", 0), slots=slots)
    tables = tuple(
        dataclasses.replace(t, columns={**t.columns, "ssn": ssn}) if t is table else t for t in PROTECTION.tables
    )  # fmt: skip
    catalog = dataclasses.replace(CATALOG, types=(OwnType(20001, 20002, -1, "public", "citext", "citext"),), signatures=None)
    return Planner(dataclasses.replace(PROTECTION, tables=tables), catalog, Ciphers(Keyring(lambda: 0.0)))


@pytest.mark.parametrize(
    ("condition", "used"),
    [
        ("ssn = $1", OWN),
        ("ssn = 'x'", OWN),
        ("ssn = $1::text", TEXT),
        ("$1::varchar <> ssn", TEXT),
        ("ssn IN ('x'::text, 'y'::varchar(3))", TEXT),
        ("ssn = ANY ($1::text[])", TEXT),
        ("ssn = lower($1)", TEXT),
        ("ssn::text = 'x'", TEXT),
        ("CASE ssn WHEN 'x'::text THEN true END", TEXT),
    ],
)
def test_the_index_on_the_text_answers_beside_texts_only(condition: str, used: str) -> None:
    sql = ask(ANY_PATIENT + condition, VIEW, with_citext())
    assert used in sql
    assert (TEXT if used == OWN else OWN) not in sql


@pytest.mark.parametrize(
    "condition",
    [
        "ssn IN ('x'::text, 'y')",
        "ssn IN (ssn, 'y'::text)",
        "ssn IN (city, 'y'::text)",
        "ssn = 'x'::char(3)",
        "CASE ssn WHEN 'x'::text THEN true WHEN 'y' THEN true END",
        "COALESCE(ssn, 'y') = 'x'::text",
        "ssn = (SELECT 'x'::text)",
    ],
)
def test_what_is_not_plain_to_see_is_refused(condition: str) -> None:
    assert ask(ANY_PATIENT + condition, VIEW, with_citext()) == "0A000"


def test_without_such_an_index_the_refusal_names_it() -> None:
    assert "an index on ssn::text" in (refusal(f"{ANY_PATIENT}ssn = $1::text", VIEW, with_citext(indexed=False)).hint or "")
