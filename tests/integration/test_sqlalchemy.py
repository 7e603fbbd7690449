"""SQLAlchemy: Core and ORM, with psycopg and asyncpg beneath; the application declares the columns as the policy does."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, Text, create_engine, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

from tests.harness.clinic import Clinic
from tests.harness.clinic import Patient as Planted
from tests.integration.dialogue import Rows, assert_told, dialogue


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patients"

    id: Mapped[int] = mapped_column(primary_key=True)
    mrn: Mapped[str | None] = mapped_column(String(12))
    ssn: Mapped[str | None] = mapped_column(Text)
    full_name: Mapped[str | None] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(String(20))
    address: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)
    city: Mapped[str | None] = mapped_column(Text)
    active: Mapped[bool | None]
    visits_count: Mapped[int | None]
    visits: Mapped[list[Visit]] = relationship(back_populates="patient")


class Visit(Base):
    __tablename__ = "visits"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int | None] = mapped_column(ForeignKey("patients.id"))
    mrn: Mapped[str | None] = mapped_column(String(12))
    diagnosis: Mapped[str | None] = mapped_column(Text)
    room: Mapped[str | None] = mapped_column(Text)
    patient: Mapped[Patient | None] = relationship(back_populates="visits")


def engine(dsn: str) -> Engine:
    return create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)


def orm_session(dsn: str, people: list[Planted], diagnosis: str, note: str) -> list[Any]:
    told: list[Any] = []
    with Session(engine(dsn)) as session:
        rows = [Patient(**vars(p), visits=[Visit(mrn=p.mrn, diagnosis=diagnosis, room=f"R{n}")]) for n, p in enumerate(people)]
        session.add_all(rows)  # insertmanyvalues: one INSERT of many rows with RETURNING
        session.commit()
        told.append([(row.id, row.ssn, row.visits[0].diagnosis) for row in rows])
    with Session(engine(dsn)) as session:
        found = session.scalars(select(Patient).where(Patient.ssn == people[0].ssn)).one()
        told.append((found.full_name, found.mrn, [v.room for v in found.visits]))
        found.notes = note
        session.commit()
        query = select(Patient.id, Visit.diagnosis).join(Visit, Visit.mrn == Patient.mrn).order_by(Patient.id)
        told.append([tuple(row) for row in session.execute(query.where(Visit.diagnosis == diagnosis))])
        ids = select(Patient.id).order_by(Patient.id)
        told.append(list(session.scalars(ids.where(Patient.ssn.in_([p.ssn for p in people[:2]])))))
        told.append(list(session.scalars(ids.where(Patient.ssn != people[0].ssn))))
        told.append(session.scalar(select(func.count()).select_from(Patient).where(Patient.phone.is_(None))))
        for visit in session.scalars(select(Visit).where(Visit.mrn == people[2].mrn)):
            session.delete(visit)
        session.flush()
        session.execute(delete(Patient).where(Patient.full_name == people[2].full_name))
        session.execute(update(Patient).where(Patient.ssn == people[1].ssn).values(phone=None, city="moved"))
        session.commit()
        told.append([(p.id, p.phone, p.notes, p.city) for p in session.scalars(select(Patient).order_by(Patient.id))])
    return told


def test_orm(clinic: Clinic) -> None:
    people = [clinic.new_patient(visits_count=n) for n in range(5)]
    diagnosis, note = clinic.plant(), clinic.plant("name")
    plain, proxied = (orm_session(dsn, people, diagnosis, note) for dsn in (clinic.plain_dsn, clinic.proxy_dsn))
    assert proxied == plain
    assert proxied[-1][0][2] == note
    clinic.assert_twins_equal()


def test_core(clinic: Clinic) -> None:
    steps = dialogue(clinic)
    told: list[list[Rows]] = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        rows: list[Rows] = []
        with engine(dsn).begin() as conn:
            for step in steps:
                names = {f"p{n}": value for n, value in enumerate(step.params, 1)}
                result = conn.execute(text(step.text.replace("$", ":p")), names)
                rows.append([tuple(r) for r in result] if result.returns_rows else [(result.rowcount,)])
        told.append(rows)
    assert_told(clinic, steps, *told)


async def test_asyncpg_beneath(clinic: Clinic) -> None:
    people = [clinic.new_patient(visits_count=n) for n in range(4)]
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        address = dsn.replace("postgresql:", "postgresql+asyncpg:").partition("?")[0]
        made = create_async_engine(address, poolclass=NullPool)
        async with made.begin() as conn:
            await conn.execute(insert(Patient), [vars(p) for p in people])
            found = await conn.execute(select(Patient.id, Patient.notes).where(Patient.ssn.in_([people[0].ssn, people[3].ssn])))
            told.append(sorted(tuple(row) for row in found))
        await made.dispose()
    assert told[0] == told[1]
    assert told[1] == [(1, people[0].notes), (4, people[3].notes)]
    clinic.assert_twins_equal()


def test_a_refusal(clinic: Clinic) -> None:
    clinic.seed(1)
    with Session(engine(clinic.proxy_dsn)) as session:
        with pytest.raises(DBAPIError, match="phiproxy:"):
            session.scalars(select(Patient).where(Patient.notes == clinic.plant())).all()
        session.rollback()
        assert session.scalar(select(func.count()).select_from(Patient)) == 1
