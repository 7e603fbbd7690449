"""The clinic in clear, and an engine beside it: what a source and its rest give is compared with what the whole statement gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from phiproxy.engine.access import Access
from phiproxy.engine.rest import Session
from tests.engine.both import Both
from tests.engine.conftest import engine_access, server_major
from tests.fixtures import model
from tests.harness.clinic import DDL
from tests.harness.server import PostgresServer

__all__ = ["engine_access", "server_major"]

# Of the patients and visits of the fixtures; @name1@ is the first one's name.
ROWS = """
CREATE EXTENSION citext;
CREATE EXTENSION pg_trgm;
INSERT INTO patients (mrn, ssn, full_name, phone, address, notes, city, active, visits_count)
SELECT 'mrn' || n, 'Zoë-ssn' || n || '-9', (ARRAY['Jackson', 'Ärmel', 'anderson', 'O''Neil', NULL, 'Jackson'])[n], 'phone' || n,
       n || ' Main Street', (ARRAY['nil', 'Dust allergy', '', NULL, 'flu', '100%'])[n],
       (ARRAY['Springfield', NULL, 'Ogdenville'])[n % 3 + 1],
       n % 2 = 0, n - 3 FROM generate_series(1, 6) n;
INSERT INTO visits (patient_id, mrn, diagnosis, room)
SELECT NULLIF(n % 5, 4) + 1, 'mrn' || n, (ARRAY['flu', 'Asthma', 'flu', NULL, 'nil', 'Zoster', ''])[n], 'r' || n % 2
  FROM generate_series(1, 7) n;
INSERT INTO members (mrn, email, city) SELECT 'mrn' || n, 'Zoë' || n || '@x.org', 'Springfield' FROM generate_series(1, 3) n;
"""


@pytest.fixture(scope="session")
def clear_clinic(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with the clinic in clear."""
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute((DDL + model.MEMBERS_DDL + model.PEOPLE_DDL + model.STAYS_DDL + model.CHARTS_DDL + ROWS).encode())
        conn.execute(model.EXTRAS.encode())
        conn.cursor().executemany("INSERT INTO people (name, code, city, born) VALUES (%s, %s, %s, %s)", list(model.PEOPLE_ROWS))
        conn.cursor().executemany("INSERT INTO stays VALUES (%s, %s, %s, %s, %s, %s)", list(model.STAYS_ROWS))
        conn.cursor().executemany("INSERT INTO charts VALUES (%s, %s, %s, %s)", list(model.CHARTS_ROWS))
    yield name
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def clear_server(postgres_server: PostgresServer, clear_clinic: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session of the server in that database."""
    with postgres_server.connect(clear_clinic) as conn:
        yield conn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept_both(engine_access: Access, clear_server: psycopg.Connection[tuple[object, ...]]) -> AsyncIterator[Both]:
    """The same statement both ways: as a whole on the server, and split. For all tests of a module, which share a loop."""
    async with Both.over(engine_access, clear_server) as both:
        yield both


@pytest.fixture(scope="module")
def session(kept_both: Both) -> Session:
    """The settings of the server's session, which no test leaves changed."""
    return kept_both.session()


@pytest.fixture
def both(kept_both: Both) -> Iterator[Both]:
    """``kept_both`` for one test."""
    yield kept_both
    kept_both.server.execute("RESET ALL")
