"""Values that are computed once for all rows: what is said of those that only the server can be asked for."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from tests.fixtures.model import VIEW, planner


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO patients (mrn) VALUES ('M' || pg_sleep(1)::text)",
        "INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers') || NULL)",
        "INSERT INTO patients (mrn, city) VALUES ('M' || nextval('numbers'), pg_sleep(1)::text)",
        "INSERT INTO springfield (social) VALUES ('M' || nextval('numbers'))",
        "INSERT INTO visits (diagnosis) SELECT room || nextval('numbers') FROM visits WHERE nextval('numbers') > 1",
        "UPDATE patients SET notes = 'n' || currval('numbers'), ssn = 's' || nextval('numbers')",
    ],
)
def test_what_is_drawn_in_another_way_is_asked_for_first(text: str) -> None:
    there = planner()
    with pytest.raises(StatementRefused) as refused:
        Planner(there.protection, there.catalog, there.ciphers, EngineFacts()).statement(text.encode(), (), VIEW)
    assert "SELECT nextval" in (refused.value.hint or "")


def test_a_call_beside_a_set_is_made_for_each_of_its_rows() -> None:
    there = planner()
    text = b"INSERT INTO patients (mrn, visits_count) SELECT 'M' || nextval('numbers'), generate_series(1, 3)"
    with pytest.raises(StatementRefused):
        Planner(there.protection, there.catalog, there.ciphers, EngineFacts()).statement(text, (), VIEW)


def test_triggers_for_each_row_may_look_at_what_was_drawn() -> None:
    there = planner()
    relations = (
        dataclasses.replace(r, row_triggers=r.name == "visits", diverted=r.diverted or r.name == "visits")
        for r in there.catalog.relations
    )
    catalog = dataclasses.replace(there.catalog, relations=tuple(relations))
    seen = Planner(there.protection, catalog, there.ciphers, EngineFacts())
    for text in (
        "UPDATE visits SET diagnosis = 'D' || nextval('s')",
        "INSERT INTO visits (diagnosis) SELECT 'D' || nextval('s') FROM log",
    ):
        with pytest.raises(StatementRefused):
            seen.statement(text.encode(), (), VIEW)
        assert seen.statement(text.replace("visits", "patients").replace("diagnosis", "notes").encode(), (), VIEW).computed
    one = b"INSERT INTO visits (diagnosis) VALUES ('D' || nextval('s'))"
    assert seen.statement(one, (), VIEW).computed
    on_update = (dataclasses.replace(r, row_triggers=r.name == "visits") for r in there.catalog.relations)
    seen = Planner(there.protection, dataclasses.replace(there.catalog, relations=tuple(on_update)), there.ciphers, EngineFacts())
    assert seen.statement(b"INSERT INTO visits (diagnosis) VALUES ('D' || nextval('s')), ('E' || nextval('s'))", (), VIEW).computed
    with pytest.raises(StatementRefused):
        seen.statement(b"UPDATE visits SET diagnosis = 'D' || nextval('s')", (), VIEW)
    relations = (dataclasses.replace(r, statement_triggers=r.name == "visits") for r in there.catalog.relations)
    catalog = dataclasses.replace(there.catalog, relations=tuple(relations))
    with pytest.raises(StatementRefused) as refused:
        Planner(there.protection, catalog, there.ciphers, EngineFacts()).statement(one, (), VIEW)
    assert "SELECT nextval" in (refused.value.hint or "")
