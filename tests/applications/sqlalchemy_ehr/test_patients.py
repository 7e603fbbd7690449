"""The desk: finding, registering and correcting patients."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, bindparam, select, update
from sqlalchemy.exc import DataError, IntegrityError, NoResultFound
from sqlalchemy.orm import Session

from tests.applications.people import PEOPLE

from .models import Patient
from .repository import PatientRepository
from .samples import patients

MRNS = [str(person["mrn"]) for person in PEOPLE]


def whose(found: Iterable[Patient]) -> list[int]:
    """Return the patients' places among the samples."""
    return sorted(MRNS.index(patient.mrn) for patient in found)


@pytest.fixture
def repository(session: Session, people: list[Patient]) -> PatientRepository:
    assert len(people) == len(PEOPLE)
    session.expunge_all()
    return PatientRepository(session)


def test_everything_comes_back(repository: PatientRepository) -> None:
    for person in PEOPLE:
        found = repository.by_mrn(person["mrn"])
        assert found is not None
        assert {name: getattr(found, name) for name in person} == person
        assert isinstance(found.id, uuid.UUID)
        assert abs(found.created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert repository.by_mrn("EHR-00000000") is None


def test_by_ssn(repository: PatientRepository) -> None:
    assert repository.by_ssn(PEOPLE[1]["ssn"]).first_name == PEOPLE[1]["first_name"]
    with pytest.raises(NoResultFound):
        repository.by_ssn("000-00-0000")
    assert repository.without_ssn() == [MRNS[3]]


def test_by_several_numbers(repository: PatientRepository) -> None:
    assert [p.mrn for p in repository.by_mrns([MRNS[4], "none", MRNS[0]])] == [MRNS[0], MRNS[4]]
    assert repository.by_mrns([]) == []


def test_by_last_name_in_any_case(repository: PatientRepository) -> None:
    assert whose(repository.by_last_name("smythe-QUORNDON")) == [1, 3]
    assert whose(repository.by_last_name("o'quillfeather")) == [4]
    assert whose(repository.by_full_name("LUDMILLA", "okonkwo-brandt")) == [0]


def test_namesakes(repository: PatientRepository) -> None:
    assert repository.namesakes() == [("smythe-quorndon", 2)]


def test_pages(repository: PatientRepository) -> None:
    assert [(total, whose(page)) for total, page in (repository.page(n, 2) for n in (1, 2, 3, 4))] == [
        (5, [0, 1]), (5, [2, 3]), (5, [4]), (5, []),
    ]  # fmt: skip
    assert repository.by_sex() == {"F": (3, 2), "M": (1, 1), "X": (1, 1)}


def test_a_change_is_stored(repository: PatientRepository, session: Session) -> None:
    patient = repository.by_ssn(PEOPLE[2]["ssn"])
    patient.phone, patient.notes = "+1 (907) 555-7799", PEOPLE[0]["notes"]
    patient.height_cm = Decimal("171.01")
    patient.date_of_birth = date(1980, 1, 2)
    session.commit()
    session.expire_all()
    again = repository.by_ssn(PEOPLE[2]["ssn"])
    assert (again.phone, again.notes, again.height_cm) == ("+1 (907) 555-7799", PEOPLE[0]["notes"], Decimal("171.01"))
    assert again.date_of_birth == date(1980, 1, 2)
    assert repository.rename(MRNS[2], "Hathersage-Quorndon") == 1
    assert repository.rename("none", "Hathersage-Quorndon") == 0
    assert whose(repository.by_last_name("hathersage-quorndon")) == [2]


def test_many_changes_at_once(repository: PatientRepository, session: Session) -> None:
    ids = session.scalars(select(Patient.id).order_by(Patient.arrival)).all()
    session.execute(update(Patient), [{"id": key, "notes": f"quartan ague {n}", "active": n > 1} for n, key in enumerate(ids)])
    session.expire_all()
    assert session.scalars(select(Patient.notes).order_by(Patient.arrival)).all() == [f"quartan ague {n}" for n in range(5)]
    assert repository.page(1, 2)[0] == 3
    by_number = update(Patient).where(Patient.mrn == bindparam("number")).values(phone=bindparam("called"))
    session.connection().execute(by_number, [{"number": mrn, "called": f"+1 (907) 555-99{n}"} for n, mrn in enumerate(MRNS)])
    assert session.scalars(select(Patient.phone).order_by(Patient.arrival)).all() == [f"+1 (907) 555-99{n}" for n in range(5)]


def test_the_feed_inserts_or_corrects(repository: PatientRepository, session: Session) -> None:
    rows = [{**PEOPLE[n], "phone": f"+1 (907) 555-880{n}", "last_name": "Quorndon"} for n in (0, 1)]
    rows.append({**PEOPLE[0], "mrn": "EHR-71640099", "ssn": None})
    repository.save_from_feed(rows)
    session.expire_all()
    assert whose(repository.by_last_name("quorndon")) == [0, 1]
    assert repository.by_ssn(PEOPLE[1]["ssn"]).phone == "+1 (907) 555-8801"
    assert repository.page(1, 1)[0] == 6
    added = repository.by_mrn("EHR-71640099")
    assert added is not None
    assert added.notes == PEOPLE[0]["notes"]


def test_numbers_are_unique(repository: PatientRepository, session: Session) -> None:
    for twice in ("mrn", "ssn"):
        other = {**PEOPLE[0], "mrn": "EHR-71640099", "ssn": "931-47-2299", twice: PEOPLE[1][twice]}
        with pytest.raises(IntegrityError) as caught, session.begin_nested():
            session.add(Patient(**other))
            session.flush()
        assert caught.value.orig is not None
        assert getattr(caught.value.orig, "sqlstate", None) == "23505"
        assert f"patients_{twice}_key" in str(caught.value.orig)
    assert repository.page(1, 1)[0] == 5


def test_what_is_too_long_or_missing_is_not_stored(repository: PatientRepository, session: Session) -> None:
    with pytest.raises(DataError, match=r"value too long for type character varying\(12\)"), session.begin_nested():
        session.add(Patient(**{**PEOPLE[0], "mrn": "EHR-716400990", "ssn": None}))
        session.flush()
    with pytest.raises(IntegrityError, match="null value in column"), session.begin_nested():
        session.add(Patient(**{**PEOPLE[0], "mrn": "EHR-71640099", "ssn": None, "last_name": None}))
        session.flush()
    assert repository.page(1, 1)[0] == 5


def test_a_transaction_is_seen_whole_or_not_at_all(emptied: Engine) -> None:
    with Session(emptied) as writer, Session(emptied) as reader:
        writer.add_all(patients())
        writer.flush()
        assert PatientRepository(reader).by_mrn(MRNS[0]) is None
        reader.rollback()
        writer.commit()
        assert PatientRepository(reader).by_ssn(PEOPLE[0]["ssn"]).last_name == PEOPLE[0]["last_name"]
        writer.delete(PatientRepository(writer).by_ssn(PEOPLE[0]["ssn"]))
        writer.rollback()
        locked = writer.scalars(select(Patient).where(Patient.mrn == MRNS[0]).with_for_update()).one()
        locked.notes = "carries quinquinophen"
        writer.commit()
        reader.expire_all()
        found = PatientRepository(reader).by_mrn(MRNS[0])
        assert found is not None
        assert found.notes == "carries quinquinophen"
