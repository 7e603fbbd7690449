"""What keeps its server connection is let pass; poolers are in tests/integration/test_poolers.py."""

import pytest

from phiproxy.net.pooling_check import refuse_transaction_pooling
from tests.harness.server import PostgresServer
from tests.net.serving import bare_settings


@pytest.mark.parametrize(("password", "known"), [(None, True), ("wrong", False)])
async def test_postgresql_itself(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, password: str | None, known: bool
) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", password or postgres_server.password)
    settings = bare_settings(postgres_server, service={"user": postgres_server.superuser})
    assert await refuse_transaction_pooling(settings, "postgres") == known
