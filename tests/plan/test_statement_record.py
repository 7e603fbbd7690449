"""What a record says of a statement: columns that it searches and stores, and its shape."""

import pytest

from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_record import NOTHING, Touched, shape
from tests.plan.test_templates import VIEW, fresh


@pytest.fixture(scope="module")
def planner() -> Planner:
    return fresh()


def of(planner: Planner, text: str) -> Touched:
    return planner.statement(text.encode(), (), VIEW).touched


def test_columns_are_named_with_their_table(planner: Planner) -> None:
    touched = of(planner, "SELECT full_name FROM patients WHERE ssn = $1 AND mrn = 'A'")
    assert (touched.searched, touched.stored) == (("public.patients.mrn", "public.patients.ssn"), ())
    assert touched.shape.text == "SELECT full_name FROM patients WHERE ssn = ? AND mrn = ?"
    touched = of(planner, "INSERT INTO patients (ssn, city, mrn) VALUES ($1, 'T', 'A'), ($2, 'T', 'B')")
    assert (touched.searched, touched.stored) == ((), (("public.patients.mrn", 2), ("public.patients.ssn", 2)))
    touched = of(planner, "COPY patients (ssn, city) FROM STDIN")
    assert touched.copied == ("public.patients.ssn",)


def test_all_texts_of_a_shape_have_one(planner: Planner) -> None:
    texts = [f"SELECT ssn FROM patients WHERE mrn = '{n}'" for n in range(3)]
    assert len({of(planner, text).shape for text in texts}) == 1
    script = planner.script(texts[0].encode(), VIEW).parts
    assert script is not None
    assert script[0].touched.shape == of(planner, texts[1]).shape


def test_what_touches_nothing_protected_has_none(planner: Planner) -> None:
    assert of(planner, "SELECT msg FROM log") is NOTHING
    assert NOTHING.shape == ("", "")


def test_a_fingerprint_is_of_the_shape() -> None:
    assert len(shape("SELECT ?").fingerprint) == 16
    assert shape("SELECT ?") != shape("SELECT ?, …")


def test_a_refused_text_shows_its_names_only(planner: Planner) -> None:
    assert planner.refused_shape(b"SELECT max(ssn) FROM patients WHERE ssn > jane").text == (
        "SELECT max(ssn) FROM patients WHERE ssn > ?"
    )
