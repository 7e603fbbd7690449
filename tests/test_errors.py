"""The error tree: every class has a SQLSTATE and a section in the README, and its public text is marked as ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phiproxy import errors
from phiproxy.app import Proxy
from phiproxy.errors import KeyNeeded, PhiproxyError, StatementRefused, WriteKeyWant, place_of

README = Path(__file__).parent.parent / "README.md"


def classes(root: type[PhiproxyError] = PhiproxyError) -> list[type[PhiproxyError]]:
    """Return every error class of the package; importing the composition root has loaded them."""
    assert Proxy is not None
    return [root, *(c for sub in root.__subclasses__() for c in classes(sub))]


@pytest.mark.parametrize("error", sorted(set(classes()), key=str))
def test_every_error_has_a_state_and_a_section(error: type[PhiproxyError]) -> None:
    assert re.fullmatch(r"[0-9A-Z]{5}", error.sqlstate)
    assert f"### {error.anchor}\n" in README.read_text(encoding="utf-8")
    assert error.__doc__


def test_the_public_text_begins_with_the_product_and_ends_in_the_anchor() -> None:
    text = StatementRefused("no such luck", hint="x", position=3).public_text
    assert text.startswith("phiproxy: no such luck")
    assert text.endswith("(README#err-refused)")


def test_control_flow_is_no_error() -> None:
    need = KeyNeeded([WriteKeyWant("d:mrn", 3)])
    assert need.wants == {WriteKeyWant("d:mrn", 3)}
    for flow in (errors.KeyNeeded, errors.CatalogNeeded, errors.PathNeeded):
        assert not issubclass(flow, PhiproxyError)


def test_a_place_is_a_file_and_a_line_and_no_text() -> None:
    with pytest.raises(ValueError, match="123") as caught:
        raise ValueError("123-45-6789")
    assert re.fullmatch(r"tests/test_errors\.py:\d+", place_of(caught.value))
    assert place_of(ValueError()) == ""
