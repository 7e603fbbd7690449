"""A schema for the run, a transaction for each test: what a test does is undone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from .models import Base, Patient
from .samples import patients


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The database that DATABASE_URL names, with the application's tables."""
    engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session inside a transaction that is rolled back after the test, whatever the test commits."""
    with engine.connect() as connection, connection.begin() as transaction:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture
def people(session: Session) -> list[Patient]:
    """The samples, stored."""
    found = patients()
    session.add_all(found)
    session.commit()
    return found


@pytest.fixture
def emptied(engine: Engine) -> Iterator[Engine]:
    """For tests of transactions of their own: the tables are emptied afterwards."""
    yield engine
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE patients, encounters, observations, medications RESTART IDENTITY"))
