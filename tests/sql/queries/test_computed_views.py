"""Views over expressions where they are read: they are what their rest was made for, and nobody else reads what is inside."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from tests.sql.split.test_view_definition import LABELS, STORED, context, read, rest_of


@pytest.mark.parametrize(
    ("of", "to"),
    [("patients.full_name", "patients.ssn"), ("s.c2 AS phi_view_1", "s.c1 AS phi_view_1"), ("f5500101aa", "f5500101ab")],
)
def test_a_view_that_is_another_one_is_not_read(of: str, to: str) -> None:
    assert of in STORED
    assert read("SELECT label FROM labels", stored=STORED.replace(of, to)) is None


def test_a_view_over_the_inputs_of_another_is_not_read() -> None:
    of = context(rest_of(LABELS))
    stolen = Relation(99002, "public", "stolen", "v", (CatalogColumn("x", 1, 17, -1),))
    catalog = dataclasses.replace(
        of.catalog,
        relations=(*of.catalog.relations, stolen),
        reaching={**of.catalog.reaching, "stolen": "view over public.patients"},
        views={**of.catalog.views, 99002: "SELECT labels.phi_view_1 AS x FROM public.labels;"},
    )
    text = b"SELECT x FROM stolen"
    (statement,) = parse(text)
    outcome = analyse(statement, text, dataclasses.replace(of, catalog=catalog, views={}))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StatementRefused)
    assert split_statement(statement, text, dataclasses.replace(of, catalog=catalog, views={}), outcome.error) is None
