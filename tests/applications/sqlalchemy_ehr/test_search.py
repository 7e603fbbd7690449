"""The desk's search box: beginnings of names, how names sound, years of birth."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy.orm import Session

from .models import Patient
from .repository import PatientRepository
from .test_patients import whose


@pytest.fixture
def repository(session: Session, people: list[Patient]) -> PatientRepository:
    assert people
    session.expunge_all()
    return PatientRepository(session)


def test_the_beginning_of_a_name(repository: PatientRepository) -> None:
    assert whose(repository.beginning_with("Smy")) == [1]
    assert whose(repository.beginning_with("Oko")) == [0]
    assert whose(repository.beginning_with("O'Q")) == [4]
    assert whose(repository.beginning_with("O_Q")) == []
    assert whose(repository.beginning_with_in_any_case("smY")) == [1, 3]
    assert whose(repository.beginning_with_in_any_case("xyz")) == []


def test_the_sound_of_a_name(repository: PatientRepository) -> None:
    assert whose(repository.sounding_like("Smith-Quorndon")) == [1, 2, 3]
    assert whose(repository.sounding_like("Quorndon")) == []


def test_the_year_of_birth(repository: PatientRepository) -> None:
    assert whose(repository.born_in(1980)) == [1, 2]
    assert whose(repository.born_in(1900)) == []
    assert whose(repository.born_in_years([1931, 2019])) == [0, 3]
    assert whose(repository.born_on(date(1979, 12, 31))) == [4]


def test_a_range_of_dates_of_birth(repository: PatientRepository) -> None:
    assert whose(repository.born_between(date(1980, 1, 1), date(1980, 12, 31))) == [1, 2]
