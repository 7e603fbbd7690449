"""citext beside texts: an index on the column as a text answers, or none does; on data in ``integration/test_own_types.py``."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.owntypes import OwnType
from phiproxy.policy.protection import DeclaredType, Slot
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import VIEW, ask, refusal

SELECT = "SELECT 1 FROM patients WHERE "
OWN, TEXT = "pg_catalog.substring(ssn, 13, 16)", "pg_catalog.substring(ssn, 29, 16)"


def planner(*, indexed: bool = True) -> Planner:
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
    ("condition", "tag"),
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
def test_which_index_answers(condition: str, tag: str) -> None:
    sql = ask(SELECT + condition, VIEW, planner())
    assert tag in sql
    assert (TEXT if tag == OWN else OWN) not in sql


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
    assert ask(SELECT + condition, VIEW, planner()) == "0A000"


def test_without_such_an_index_the_refusal_names_it() -> None:
    assert "an index on ssn::text" in (refusal(f"{SELECT}ssn = $1::text", VIEW, planner(indexed=False)).hint or "")
