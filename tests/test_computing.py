"""The engine as sessions have it: which columns of tables clients see, of which the types of rows are made."""

from __future__ import annotations

from phiproxy.computing import shown_columns
from tests.clinic_model import CATALOG
from tests.policy.build import make_policy


def test_columns_are_as_clients_see_them() -> None:
    protected = {"ssn": {"type": "text"}, "mrn": {"type": "varchar(12)"}}
    shown = shown_columns(make_policy({"public.patients": protected, "public.not_there": {"a": {"type": "text"}}}), CATALOG)
    assert shown.keys() == {("public", "patients")}
    columns = shown["public", "patients"]
    assert (columns["id"], columns["mrn"], columns["ssn"]) == ("", "varchar(12)", "text")
    assert not any(name.startswith("phi_tag_") for name in columns)
