"""What is said where no index answers a comparison of a part of a document."""

from __future__ import annotations

import pytest

from phiproxy.documents.field_paths import ELEMENTS
from phiproxy.policy.column_types import builtin
from phiproxy.sql.expressions.field_hints import index_name, instead_of_index
from tests.clinic_model import protected
from tests.records_model import DOC, FIELDS


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (("ssn",), True, None),
        (("ssn",), False, None),
        (("name",), True, "single fields that the policy lists"),
        (("history", ELEMENTS, "note"), True, "No index finds what stands in an array"),
        (("extra",), True, "compare it as JSON"),
        (("extra",), False, None),
        (("age",), True, None),
    ],
)
def test_an_index_is_named_only_where_there_can_be_one(path: tuple[str | None, ...], text: bool, said: str | None) -> None:
    part = DOC.part_at(path, builtin("text" if text else "jsonb"), text=text)
    hint = instead_of_index(part)
    assert (hint is None) if said is None else said in str(hint)
    assert index_name(part) == "value"


def test_columns_have_their_names() -> None:
    assert index_name(protected("t", "Weird", 1)) == '"Weird"'
    assert index_name(FIELDS[0]) == "value"
    assert instead_of_index(protected("t", "c", 1)) is None
