"""What would become of statements if the columns were sealed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.explanation import DEFAULT_PATH
from phiproxy.plan.forecast import Forecast, forecast, forecaster, missing_indexes
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.column_states import as_if_sealed
from tests.clinic_model import SIGNATURES
from tests.policy.build import make_catalog, make_layout, make_policy

POLICY = make_policy(
    {
        "public.patients": {
            "ssn": {"type": "text", "indexes": ["ssn"], "distinct": 1000000},
            "born": {"type": "date"},
            "name": {"type": "text"},
        }
    }
)
LAYOUT = replace(make_layout(POLICY), clear=frozenset(make_layout(POLICY).columns))
CATALOG = make_catalog(POLICY, type_oid=25)
PLANNER = Planner(*as_if_sealed(bind(POLICY, LAYOUT, CATALOG, "phiproxy"), CATALOG), Ciphers(Keyring(lambda: 0.0)))


def of(text: str) -> Forecast | None:
    return forecast(PLANNER, text.encode(), (), DEFAULT_PATH, "clinic")


@pytest.mark.parametrize(
    "text", ["SELECT id FROM rooms", "SELECT nam FROM patients", "SELECT ssn FROM patient", "SELECT ssn FRO patients"]
)
def test_nothing_is_said_of_what_fails_today_too(text: str) -> None:
    assert of(text) is None


def test_it_works() -> None:
    foreseen = of("INSERT INTO patients (id, ssn) SELECT id, ssn FROM patients WHERE ssn = $1 AND name IS NOT NULL RETURNING born")
    assert foreseen == Forecast("works", columns=("public.patients.born", "public.patients.ssn"))


def test_by_value() -> None:
    foreseen = of("SELECT id FROM patients WHERE ssn LIKE $1")
    assert foreseen is not None
    assert (foreseen.fate, foreseen.columns) == ("works", ("public.patients.ssn",))
    assert "depends on the value" in foreseen.hint
    assert "refused" in foreseen.hint
    there = Planner(PLANNER.protection, PLANNER.catalog, PLANNER.ciphers, EngineFacts())
    split = forecast(there, b"SELECT id FROM patients WHERE ssn ^@ $1", (), DEFAULT_PATH, "clinic")
    assert split is not None
    assert "split" in (split.hint or split.fate)


@pytest.mark.parametrize(
    ("text", "indexes"),
    [
        ("SELECT id FROM patients WHERE name = 'x'", (("public.patients.name", "name"),)),
        ("SELECT id FROM patients WHERE lower(ssn) = $1", (("public.patients.ssn", "lower(ssn)"),)),
        ("SELECT id FROM patients WHERE born BETWEEN $1 AND $2", (("public.patients.born", "extract(year from born)"),)),
        ("SELECT ssn || 'x' FROM patients", ()),
        ("SELECT max(name) FROM patients", ()),
    ],
)
def test_it_is_refused(text: str, indexes: tuple[tuple[str, str], ...]) -> None:
    foreseen = of(text)
    assert foreseen is not None
    assert foreseen.fate == "refused"
    assert foreseen.reason
    assert foreseen.hint
    assert foreseen.indexes == indexes


def test_a_view_is_what_it_will_have_become() -> None:
    """One that computes is split, and so are those over it; without an engine it is what it is, and could not be converted."""
    views = {
        901: ("deep", "SELECT louder.loud FROM public.louder WHERE (louder.id > 3);"),
        902: ("louder", "SELECT loud.id, (loud.loud || '!'::text) AS loud FROM public.loud;"),
        903: ("loud", "SELECT patients.id, upper(patients.ssn) AS loud FROM public.patients;"),
        904: ("pairs", "SELECT a.id FROM (public.patients a JOIN public.patients b ON ((a.ssn = b.ssn)));"),
    }
    columns = CatalogColumn("id", 1, 23, -1), CatalogColumn("loud", 2, 25, -1)
    shown = {"deep": columns[1:], "louder": columns, "loud": columns, "pairs": columns[:1]}
    relations = [Relation(oid, "public", name, "v", shown[name]) for oid, (name, _) in views.items()]
    catalog = replace(
        PLANNER.catalog,
        relations=(*PLANNER.catalog.relations, *relations),
        reaching={name: "view over public.patients" for name, _ in views.values()},
        views={oid: query for oid, (_, query) in views.items()},
        signatures=SIGNATURES,
    )
    said = {}
    for engine in (EngineFacts(), None):
        planner = forecaster(PLANNER.protection, catalog, engine, "clinic")
        foreseen = [forecast(planner, f"SELECT * FROM {name}".encode(), (), DEFAULT_PATH, "clinic") for name, _ in views.values()]
        said[engine is not None] = [None if one is None else one.fate for one in foreseen]
    assert said == {True: ["split", "split", "split", "works"], False: ["refused", "refused", "refused", "works"]}


def test_several_indexes_of_a_hint() -> None:
    hint = "Add `left(a,3)` or `right(a,2)` to the indexes of public.t.a in the policy, then run phiproxy keys init."
    assert missing_indexes(hint) == (("public.t.a", "left(a,3)"), ("public.t.a", "right(a,2)"))
    assert missing_indexes("Compare it by =.") == ()
