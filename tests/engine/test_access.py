"""What reaches the engine: nothing secret is shown, and the role's verifier is one that its keys fit."""

from __future__ import annotations

import pickle

from psycopg.conninfo import conninfo_to_dict

from phiproxy.engine.access import Access, random_credentials
from phiproxy.wire.scram import ScramClient, ScramServer, Verifier

ACCESS = Access("/run/engine", 5433, "phiproxy_engine", "p'w \\x", random_credentials())


def test_its_socket_and_its_connection_string() -> None:
    assert ACCESS.socket == "/run/engine/.s.PGSQL.5433"
    told = conninfo_to_dict(ACCESS.conninfo("db"))
    assert (told["host"], told["port"], told["user"], told["dbname"], told["password"]) == (
        "/run/engine", "5433", "phiproxy_engine", "db", "p'w \\x",
    )  # fmt: skip
    without = Access("/run/engine", 5433, "phiproxy_engine", None, ACCESS.credentials)
    assert "password" not in conninfo_to_dict(without.conninfo())


def test_nothing_secret_is_shown() -> None:
    shown = repr(ACCESS) + str(ACCESS)
    assert "p'w" not in shown
    assert repr(ACCESS.credentials.client_key) not in shown


def test_a_worker_gets_it_from_the_supervisor() -> None:
    assert pickle.loads(pickle.dumps(ACCESS)) == ACCESS


def test_the_verifier_takes_the_keys() -> None:
    verifier = Verifier.parse(ACCESS.verifier)
    assert verifier is not None
    server = ScramServer(verifier, b"SCRAM-SHA-256", None)
    client = ScramClient(ACCESS.credentials, [b"SCRAM-SHA-256"], None)
    final, _ = server.final(client.final(server.first(client.first())), "phiproxy_rest")
    assert client.accepts(final)
