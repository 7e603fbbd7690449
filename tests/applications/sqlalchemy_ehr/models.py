"""The tables."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import DateTime, ForeignKey, Identity, Index, Numeric, String, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Everything that ``create_all`` makes."""


class Patient(Base):
    """Who is cared for."""

    __tablename__ = "patients"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    arrival: Mapped[int] = mapped_column(Identity(always=True))
    mrn: Mapped[str] = mapped_column(String(12), unique=True)
    ssn: Mapped[str | None] = mapped_column(String(11), unique=True)
    first_name: Mapped[str] = mapped_column(String(80))
    last_name: Mapped[str] = mapped_column(String(80))
    date_of_birth: Mapped[date]
    sex: Mapped[str] = mapped_column(String(1))
    height_cm: Mapped[Decimal | None] = mapped_column(Numeric(5, 2))
    phone: Mapped[str | None] = mapped_column(String(24))
    notes: Mapped[str] = mapped_column(Text, default="")
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    encounters: Mapped[list[Encounter]] = relationship(
        back_populates="patient", cascade="all, delete-orphan", order_by="Encounter.started_at"
    )
    medications: Mapped[list[Medication]] = relationship(
        primaryjoin="Patient.mrn == foreign(Medication.mrn)", order_by="Medication.id", viewonly=True
    )

    __table_args__ = (Index("patients_lower_last_name", func.lower(last_name)),)


class Encounter(Base):
    """One contact with a patient."""

    __tablename__ = "encounters"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("patients.id", ondelete="CASCADE"))
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    department: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(Text)

    patient: Mapped[Patient] = relationship(back_populates="encounters")
    observations: Mapped[list[Observation]] = relationship(
        back_populates="encounter", cascade="all, delete-orphan", order_by="Observation.id"
    )


class Observation(Base):
    """Something measured."""

    __tablename__ = "observations"

    id: Mapped[int] = mapped_column(primary_key=True)
    encounter_id: Mapped[int] = mapped_column(ForeignKey("encounters.id", ondelete="CASCADE"))
    code: Mapped[str] = mapped_column(String(16))
    value: Mapped[Decimal | None] = mapped_column(Numeric(12, 3))
    unit: Mapped[str | None] = mapped_column(String(16))
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    taken_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    encounter: Mapped[Encounter] = relationship(back_populates="observations")


class Medication(Base):
    """What the pharmacy's feed says that a patient takes; it knows the medical record number only."""

    __tablename__ = "medications"

    id: Mapped[int] = mapped_column(primary_key=True)
    mrn: Mapped[str] = mapped_column(String(12), index=True)
    code: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text)
    dose: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    prescribed_on: Mapped[date]
    stopped_on: Mapped[date | None]
