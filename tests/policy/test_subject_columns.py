"""One spelling of each subject, however it came."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.policy.subject_columns import SubjectKind, may_declare, spelled_subject, subject_kind


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_integers_are_one_however_they_come(value: int) -> None:
    forms = [value.to_bytes(size, "big", signed=True) for size in (4, 8)]
    spelled = {spelled_subject("integer", form, binary=True) for form in forms}
    assert spelled | {spelled_subject("integer", f" {value:+05d} ".encode())} == {b"%d" % value}


@given(st.uuids())
def test_uuids_are_one_however_they_come(value: uuid.UUID) -> None:
    texts = [str(value), str(value).upper(), f"{{{value}}}", value.hex]
    spelled = {spelled_subject("uuid", text.encode()) for text in texts} | {spelled_subject("uuid", value.bytes, binary=True)}
    assert spelled == {str(value).encode()}


@given(st.text())
def test_texts_are_as_they_are(value: str) -> None:
    assert {spelled_subject("text", value.encode(), binary=binary) for binary in (False, True)} == {value.encode()}


WRONG: list[tuple[SubjectKind, bytes, bool]] = [
    ("integer", b"4711.0", False), ("integer", b"\xef\xbc\x94", False), ("integer", b"123", True), ("integer", b"", True),
    ("uuid", b"4711", False), ("uuid", b"123", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "binary"), WRONG)
def test_what_is_no_value_has_no_spelling(kind: SubjectKind, value: bytes, *, binary: bool) -> None:
    assert spelled_subject(kind, value, binary=binary) is None


def test_the_types_of_subjects() -> None:
    assert [subject_kind(oid) for oid in (21, 23, 20, 2950, 25, 1043)] == ["integer"] * 3 + ["uuid", "text", "text"]
    assert [subject_kind(oid) for oid in (1700, 1042, 1082, 0, 17)] == [None] * 5
    assert [may_declare("integer", oid) for oid in (0, 705, 20, 1700, 25)] == [True, True, True, False, False]
