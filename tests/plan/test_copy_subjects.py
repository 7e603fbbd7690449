"""Whom the rows of COPY are about, read out of the data; through sockets: tests/integration/test_audit_subjects.py."""

from __future__ import annotations

import pytest

from phiproxy.plan.copy_sealing import codec_of
from phiproxy.plan.copy_subjects import RowSubjects
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.sql.result import ProtectedCopy, Reveal, Subject
from phiproxy.wire.copy_rows import CopyFormat
from phiproxy.wire.encodings import UTF8, encoding_of
from tests.clinic_model import PATIENTS

SSN = PATIENTS.columns["ssn"]
P, Q = Subject("public.patients.id", "integer", 1), Subject("public.visits.patient_id", "integer", 1)


def noted(data: bytes, form: CopyFormat, *about: Subject, sealed: bool = False, encoding: str = "") -> list[Noted]:
    copy = ProtectedCopy(
        "patients", ("ssn", "id"), (Reveal(SSN, SSN.type), None), form, incoming=True, skips_errors=False, about=about
    )
    codec = codec_of(form, 1 << 20)
    rows = codec.feed(data)
    assert codec.error is None
    return RowSubjects(copy, codec, encoding_of(encoding) or UTF8, sealed=sealed).of(rows)


@pytest.mark.parametrize(
    ("data", "form", "said"),
    [
        (b"x\t 04711 \ny\t\\N\n", CopyFormat(), [(0, b"4711")]),
        (b'x,"4711"\ny,\n', CopyFormat(format="csv", delimiter=b",", null=b""), [(0, b"4711")]),
        (b"x\t0x12\n", CopyFormat(), [(0, None)]),
        (b"x\tD\ny\t4711\n", CopyFormat(default=b"D"), [(0, None), (0, b"4711")]),
        (b'x,"D"\n', CopyFormat(format="csv", delimiter=b",", null=b"", default=b"D"), [(0, None)]),
    ],
)
def test_each_row_is_about_what_its_column_says(data: bytes, form: CopyFormat, said: list[Noted]) -> None:
    assert noted(data, form, P) == said


def test_a_column_of_two_relations_counts_for_both() -> None:
    assert noted(b"x\t7\n", CopyFormat(), P, Q) == [(0, b"7"), (1, b"7")]


def test_what_is_sealed_is_left_to_whoever_opens_it() -> None:
    own = Subject("public.patients.ssn", "text", 0)
    assert noted(b"x\t7\n", CopyFormat(), own) == [(0, b"x")]
    assert noted(b"x\t7\n", CopyFormat(), own, sealed=True) == []
    assert noted(b"x\t7\n", CopyFormat(), Subject("public.patients.id")) == []


def test_binary_texts_are_in_the_encoding_of_the_client() -> None:
    data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\x02\0\0\0\x01\xe9\xff\xff\xff\xff"
    own = Subject("public.patients.ssn", "text", 0)
    assert noted(data, CopyFormat(format="binary"), own, encoding="LATIN1") == [(0, "é".encode())]
