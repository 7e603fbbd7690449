"""Alembic's own revisions: compared with a database without a policy, and run through the proxy up and down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import pytest
from alembic.config import Config
from sqlalchemy import CHAR, CheckConstraint, Column, ForeignKey, Integer, MetaData, String, Table, Text, create_engine

from tests.harness.clinic import POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import pair

CODED = POLICY.replace("      notes: ", "      code:      {type: char(5)}\n      notes: ", 1)
NAMES = {key: f"{key}_%(table_name)s_%(column_0_name)s" for key in ("uq", "ix", "fk")} | {"ck": "ck_%(constraint_name)s"}
ENV = """
from alembic import context
with context.config.attributes["engine"].begin() as conn:
    context.configure(connection=conn, target_metadata=context.config.attributes["metadata"])
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """from alembic import op
import sqlalchemy as sa
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def models(step: int) -> MetaData:
    """Return the application's tables as they are after so many changes."""
    made = MetaData(naming_convention=NAMES)
    own: list[Any] = [Column("id", Integer, primary_key=True), Column("mrn", String(12), unique=True)]
    if step == 0:
        Table("patients", made, *own, Column("ssn", Text, nullable=False, index=True), Column("city", Text))
    if step == 1:
        more: list[Any] = [
            Column("full_name", Text, index=True),
            Column("code", CHAR(5)),
            CheckConstraint("code <> ''", name="code"),
        ]
        Table("patients", made, *own, Column("ssn", Text, index=True), *more, Column("notes", Text))
        key: Any = Column("mrn", String(12), ForeignKey("patients.mrn", ondelete="CASCADE"), index=True)
        Table("visits", made, Column("id", Integer, primary_key=True), key, Column("diagnosis", Text, server_default="none"))
    if step == 2:
        Table("patients", made, *own, Column("ssn", Text), Column("full_name", Text))
    return made


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    with open_site(postgres_server, tmp_path_factory.mktemp("alembic"), policy=CODED, ddl="SELECT", planned=True) as site:
        yield site


def test_revisions_that_alembic_writes(site: Site, tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENV)
    (tmp_path / "script.py.mako").write_text(REVISION)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    with pair(site) as both:
        ssn, mrn = both.oracle.plant("ssn"), both.oracle.plant("mrn")
        for step in range(3):
            config.attributes["metadata"] = models(step)
            with _engine(config, site.plain_dsn):
                alembic.command.revision(config, autogenerate=True)
                alembic.command.upgrade(config, "head")
            with _engine(config, site.proxy_dsn):
                alembic.command.upgrade(config, "head")
            site.cli("check")
            both.run("INSERT INTO patients (ssn, mrn) VALUES (%s, %s) RETURNING *", (ssn, f"{mrn[:10]}{step}"))
            both.run("INSERT INTO patients (ssn, mrn) VALUES (%s, %s)", (ssn, f"{mrn[:10]}{step}"))
            if step == 1:
                both.run("INSERT INTO visits (mrn) VALUES (%s) RETURNING *", (f"{mrn[:10]}1",))
                both.run("INSERT INTO visits (mrn) VALUES (%s)", ("nobody",))
        for target in ("-1", "base"):
            for dsn in (site.plain_dsn, site.proxy_dsn):
                with _engine(config, dsn):
                    alembic.command.downgrade(config, target)
            both.run("SELECT * FROM patients")
        for conn in both.sides:
            conn.execute("DROP TABLE alembic_version")


@contextmanager
def _engine(config: Config, dsn: str) -> Iterator[None]:
    """Let Alembic's commands work on a database."""
    config.attributes["engine"] = engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    try:
        yield
    finally:
        engine.dispose()
