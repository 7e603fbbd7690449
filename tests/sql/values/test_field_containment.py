"""What of a value the server is asked for, and what fields must be: with what it takes no notice of left out."""

from __future__ import annotations

import pytest

from phiproxy.sql.values.field_containment import REST, ContainedFields
from phiproxy.sql.values.patterns import NotAnswered
from tests.records_model import DOC, SEALED


def contained(*, others_sealed: bool = False) -> ContainedFields:
    """Return the rest of a containment in a document whose fields $.ssn (0) and $.age (3) answer equality."""
    document = (SEALED if others_sealed else DOC).document
    assert document is not None
    return ContainedFields(REST, document, frozenset({0, 3}), "public.records.fields")


@pytest.mark.parametrize(
    ("value", "subjects", "clear", "others_sealed"),
    [
        ('{"ssn": "1", "ward": "B"}', {0: b"1"}, '{"ward": "B"}', False),
        ('{"age": 7, "name": {"given": ["x"]}}', {3: b"7"}, '{"name": {"given": ["x"]}}', False),
        ('{"ssn": null}', {}, '{"ssn": null}', False),
        ('{"name": "x", "a": [1, {"b": "ß"}]}', {}, '{"a": [1, {"b": "\\u00df"}], "name": "x"}', False),
        ('{"ward": ["W"], "meta": {"at": "x"}, "ssn": "1"}', {0: b"1"}, '{"meta": {"at": "x"}, "ward": ["W"]}', True),
        ('{"x": {"y": null}}', {}, '{"x": {"y": null}}', True),
    ],
)
def test_what_is_asked(value: str, subjects: dict[int, bytes], clear: str, *, others_sealed: bool) -> None:
    rest = contained(others_sealed=others_sealed)
    assert rest.subjects(value.encode())[0] == subjects
    assert rest.in_clear(value.encode()) == b"\x01" + clear.encode()


@pytest.mark.parametrize(
    ("value", "weaker", "others_sealed"),
    [
        ('{"ssn": 5, "ward": "B"}', '{"ward": "B"}', False),
        ('{"ssn": {"a": "b"}}', None, False),
        ('{"name": {"family": "X", "given": "y"}, "age": 1}', '{"age": 1, "name": {"given": "y"}}', False),
        ('{"history": [{"note": "x"}]}', None, False),
        ('{"extra": 5}', None, False),
        ('{"age": 1.5}', None, False),
        ('["x"]', None, False),
        ('{"x": 1, "ssn": "2"}', '{"ssn": "2"}', True),
        ('{"x": [], "ward": 1}', '{"ward": 1}', True),
    ],
)
def test_what_nothing_answers(value: str, weaker: str | None, *, others_sealed: bool) -> None:
    rest = contained(others_sealed=others_sealed)
    with pytest.raises(NotAnswered, match=r"no blind index answers"):
        rest.subjects(value.encode())
    assert rest.weaker(value.encode()) == (None if weaker is None else weaker.encode())
