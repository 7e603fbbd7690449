"""Whom an execution is about: the values of subject columns in the rows that come, and those that a client has given."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from phiproxy.policy.subject_columns import SubjectKind, may_declare, spelled_subject
from phiproxy.sql.result import Given, Subject
from phiproxy.sql.text.shape import literal_value, shape_of
from phiproxy.wire.encodings import UTF8, Encoding
from phiproxy.wire.fields import FieldFunctionOrNull

Noted = tuple[int, bytes | None]
"""The number of a subject among those of its statement, and a value of it as it is spelled (``spelled_subject``).

None for a value of which it is not known how it is spelled.
"""
Note = Callable[[Noted], None]


class SubjectOutput(NamedTuple):
    """A result column that says whom a row is about: the numbers of the subjects that it is of, joined ones too."""

    numbers: tuple[int, ...]
    position: int
    kind: SubjectKind


def outputs_of(subjects: Sequence[Subject]) -> tuple[SubjectOutput, ...]:
    """Return the result columns that say whom a row is about."""
    numbers: dict[tuple[int, SubjectKind], list[int]] = {}
    for number, subject in enumerate(subjects):
        if subject.output >= 0:
            numbers.setdefault((subject.output, subject.kind), []).append(number)
    return tuple(SubjectOutput(tuple(own), position, kind) for (position, kind), own in numbers.items())


def are_given(subjects: Sequence[Subject]) -> bool:
    """Tell whether of one of them the client gives the values."""
    return bool(subjects) and any(subject.given for subject in subjects)


def noting(output: SubjectOutput, note: Note, opener: FieldFunctionOrNull | None, read: Encoding | None) -> FieldFunctionOrNull:
    """Return what notes a value of a subject column, and gives it on.

    ``opener`` opens it where it is protected. Else it comes in binary, where ``read`` is None, or in an encoding of texts.
    """
    numbers, _, kind = output
    if opener is not None:

        def opened(data: bytes, begin: int, end: int) -> bytes | None:
            value = opener(data, begin, end)
            for number in numbers:
                note((number, value))
            return value

        return opened

    def noted(data: bytes, begin: int, end: int) -> bytes:
        value = data[begin:end]
        spelled = spelled_subject(kind, value, binary=True) if read is None else value if read is UTF8 else read.to_utf8(value)
        if spelled is not None:
            for number in numbers:
                note((number, spelled))
        return value

    return noted


def given_values(
    subjects: Sequence[Subject],
    text: bytes,
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    oids: Sequence[int] = (),
    encoding: Encoding = UTF8,
) -> tuple[Noted, ...]:
    """Return the subjects that a client has given with a text in UTF-8, or with the parameters of one, in their formats and types.

    Of a subject of which one value is not spelled as its column's values are there is none: it is not known then.
    """
    constants = constants_of(text) if any(one.constant >= 0 for subject in subjects for one in subject.given) else ()

    def one_of(subject: Subject, one: Given) -> bytes | None:
        if not one.number:
            return spelled_subject(subject.kind, literal_value(constants[one.constant]) if one.constant >= 0 else one.literal)
        i = one.number - 1
        value, oid = (values[i] if i < len(values) else None), oids[i] if i < len(oids) else 0
        if value is None or not may_declare(subject.kind, oid):
            return None
        binary = (formats[i] if len(formats) > 1 else formats[0] if formats else 0) == 1
        if encoding is not UTF8 and not (binary and subject.kind != "text"):
            value = encoding.to_utf8(value)
        return spelled_subject(subject.kind, value, binary=binary)

    noted: list[Noted] = []
    for number, subject in enumerate(subjects):
        spelled = [one_of(subject, one) for one in subject.given]
        noted += [(number, value) for value in spelled if value is not None] if None not in spelled else []
    return tuple(noted)


def with_values(subjects: Sequence[Subject], noted: Sequence[Noted]) -> tuple[Subject, ...]:
    """Return the subjects of a cursor for those who read it: what was given when it was opened is ``noted``."""
    values: dict[int, list[Given]] = {}
    for number, value in noted:
        if value is not None:
            values.setdefault(number, []).append(Given(literal=value))
    given = [replace(subject, given=tuple(values.get(number, ()))) for number, subject in enumerate(subjects)]
    return tuple(one if subject.given else subject for one, subject in zip(given, subjects, strict=True))


def constants_of(text: bytes) -> tuple[bytes, ...]:
    """Return the constants of a text that has a shape."""
    shape = shape_of(text)
    return shape.constants if shape is not None else ()
