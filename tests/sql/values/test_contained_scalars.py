"""What of an object indexes of paths answer."""

from __future__ import annotations

import pytest

from phiproxy.sql.values.contained_scalars import Contained, PathIndex
from phiproxy.sql.values.patterns import NotAnswered

INDEXES = (PathIndex(("ssn",), as_text=True), PathIndex(("age",), as_text=False), PathIndex(("name", "family"), as_text=True))
CONTAINED = Contained(0, (*INDEXES, PathIndex(("name", "family"), as_text=False)), "@", "doc", "public.t.doc")


@pytest.mark.parametrize(
    ("value", "subjects"),
    [
        ('{"ssn": "123-45-6789"}', {0: b"123-45-6789"}),
        ('{"ssn": "null"}', {0: b"null"}),
        ('{"ssn": "01"}', {0: b"01"}),
        ('{"ssn": "\\"a\\""}', {0: b'"a"'}),
        ('{"age": 40.0}', {1: b"40.0"}),
        ('{"age": null}', {1: b"null"}),
        ('{"age": "40", "name": {"family": "Smith"}}', {1: b'"40"', 3: b'"Smith"'}),
    ],
)
def test_what_is_answered(value: str, subjects: dict[int, bytes]) -> None:
    assert CONTAINED.subjects(value.encode()) == subjects


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("{}", "an object with scalars in it"),
        ("[]", "an object with scalars in it"),
        ('"a"', "an object with scalars in it"),
        ('{"age": [40]}', "not arrays or objects without members"),
        ('{"name": {}}', "not arrays or objects without members"),
        ('{"zip": "8010", "age": 1}', "Add `doc->'zip'` to the indexes of public.t.doc"),
        ('{"name": {"given": "x"}}', "Add `doc#>'{name,given}'` to the indexes"),
        ('{"ssn": 5}', "Add `doc->'ssn'` to the indexes"),
        ('{"ssn": "5"}', "Add `doc->'ssn'` to the indexes"),
        ('{"ssn": "1.50"}', "Add `doc->'ssn'`"),
        ('{"ssn": "true"}', "Add `doc->'ssn'`"),
        ('{"ssn": "{}"}', "Add `doc->'ssn'`"),
        ('{"ssn": null}', "Add `doc->'ssn'`"),
    ],
)
def test_what_is_not(value: str, hint: str) -> None:
    with pytest.raises(NotAnswered) as refused:
        CONTAINED.subjects(value.encode())
    assert hint in (refused.value.hint or "")


def test_a_tag_for_what_is_there_and_nothing_for_the_rest() -> None:
    others = [Contained(i, CONTAINED.indexes, "@", "doc", "o") for i in range(4)]
    value = b'{"age": 40, "ssn": "x"}'
    assert [one.tag(value, lambda subject: b"<" + subject + b">") for one in others] == [b"<x>", b"<40>", b"", b""]
    asked = [Contained(i, CONTAINED.indexes, "@", "doc", "o", asked=True) for i in range(4)]
    assert [bool(one.tag(value, bytes)) for one in asked] == [True, True, False, False]


def test_the_hint_names_the_path_from_the_compared_document() -> None:
    inner = Contained(0, (), "jsonb_extract_path(@,'name')", "doc", "o", frozenset({"jsonb_extract_path(@,'name','b')"}))
    with pytest.raises(NotAnswered) as refused:
        inner.subjects(b'{"a": 1}')
    assert "`doc#>'{name,a}'`" in (refused.value.hint or "")
    with pytest.raises(NotAnswered) as refused:
        inner.subjects(b'{"b": 1}')
    assert "phiproxy reindex" in (refused.value.hint or "")
    assert "Add" not in (refused.value.hint or "")
