"""The values of subjects that a client gives, and those that its rows bring."""

from __future__ import annotations

from phiproxy.plan.subjects_of_execution import Noted, SubjectOutput, are_given, given_values, noting, outputs_of
from phiproxy.sql.result import Given, Subject
from phiproxy.wire.encodings import UTF8, Encoding, encoding_of

BY_PARAMETER = Subject("p.id", "integer", given=(Given(2),))
LATIN = encoding_of("LATIN1")


def test_parameters_are_read_as_they_come() -> None:
    def given(value: bytes | None, code: int, oid: int = 0) -> tuple[Noted, ...]:
        return given_values([BY_PARAMETER], b"", [b"x", value], (0, code), (0, oid))

    assert given(b" 4711", 0) == given((4711).to_bytes(8, "big"), 1, 20) == ((0, b"4711"),)
    assert given(b"x", 0) == given(None, 0) == given(b"4711", 0, 1700) == ()
    assert given_values([BY_PARAMETER], b"", [b"x", (7).to_bytes(4, "big")], (1,)) == ((0, b"7"),), "one format for all"
    assert given_values([BY_PARAMETER], b"", [b"x", b"7"]) == ((0, b"7"),)
    assert given_values([BY_PARAMETER], b"", [b"x"]) == (), "the server says that one is missing"


def test_constants_are_those_of_the_text_at_hand() -> None:
    subject = Subject("p.id", "text", given=(Given(constant=0), Given(constant=1)))
    assert given_values([subject], b"SELECT ssn FROM p WHERE id IN ('o''hara', 'b')") == ((0, b"o'hara"), (0, b"b"))
    assert given_values([Subject("p.id", given=(Given(literal=b"c"),))], b"SELECT /* no shape */ 1") == ((0, b"c"),)


def test_texts_are_read_in_the_clients_encoding() -> None:
    assert LATIN is not None
    subject = Subject("p.id", "text", given=(Given(1),))
    assert given_values([subject], b"", ["ä".encode("latin-1")], (1,), (), LATIN) == ((0, "ä".encode()),)


def test_rows_bring_them() -> None:
    noted: list[Noted] = []

    def shown(kind: str, data: bytes, read: Encoding | None) -> bytes | None:
        return noting(SubjectOutput((0, 2), 1, kind), noted.append, None, read)(b"__" + data, 2, 2 + len(data))  # type: ignore[arg-type]

    assert shown("integer", (4711).to_bytes(4, "big"), None) == (4711).to_bytes(4, "big")
    assert shown("text", b"x", UTF8) == b"x"
    assert LATIN is not None
    assert shown("text", b"\xe4", LATIN) == b"\xe4"
    assert noted == [(n, value) for value in (b"4711", b"x", "ä".encode()) for n in (0, 2)]
    noted.clear()
    assert noting(SubjectOutput((0,), 0, "text"), noted.append, lambda data, _b, _e: data[::-1], None)(b"abc", 0, 3) == b"cba"
    assert noted == [(0, b"cba")], "of a protected one the opened value"


def test_one_column_may_be_of_several() -> None:
    subjects = [Subject("p.id", "integer", 3), Subject("v.pid", "integer", 3), Subject("n.mrn", "text", 1), BY_PARAMETER]
    assert outputs_of(subjects) == (SubjectOutput((0, 1), 3, "integer"), SubjectOutput((2,), 1, "text"))
    assert are_given(subjects)
    assert not are_given(subjects[:3])
