"""How the engine is reached: its socket and its two logins, the administrator's and the one that runs rests."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from dataclasses import dataclass, field

from psycopg.conninfo import make_conninfo

from phiproxy.wire.scram import DEFAULT_ITERATIONS, Credentials

# Who runs the rests of statements; what this role may do is ``locked_down``'s.
ROLE = "phiproxy_rest"
ADMINISTRATOR = "phiproxy_engine"
# Where the administrator asks what concerns the whole cluster.
MAINTENANCE = "postgres"


@dataclass(frozen=True, slots=True)
class Access:
    """A socket in ``directory`` and what logs in there, made for this run of the proxy; workers get it from the supervisor.

    The role has no password: its verifier is made of random keys, with which no key need be derived at any login.
    """

    directory: str
    port: int
    administrator: str
    administrator_password: str | None = field(repr=False)
    credentials: Credentials = field(repr=False)

    @property
    def socket(self) -> str:
        """The path of the Unix socket."""
        return f"{self.directory}/.s.PGSQL.{self.port}"

    @property
    def verifier(self) -> str:
        """What the engine keeps in place of the role's password (RFC 5803)."""
        stored = hashlib.sha256(self.credentials.client_key).digest()
        salt, one, other = (b64encode(key).decode() for key in (os.urandom(16), stored, self.credentials.server_key))
        return f"SCRAM-SHA-256${DEFAULT_ITERATIONS}:{salt}${one}:{other}"

    def conninfo(self, database: str = MAINTENANCE) -> str:
        """Return libpq's connection string for the administrator; it holds the password, so it is never logged."""
        parameters: dict[str, str | int] = {
            "host": self.directory,
            "port": self.port,
            "user": self.administrator,
            "dbname": database,
            "client_encoding": "UTF8",
            "application_name": "phiproxy",
            # what the server's database defines there must not be taken for what the proxy names
            "options": "-c search_path=pg_catalog -c statement_timeout=0 -c default_transaction_read_only=off",
        }
        if self.administrator_password is not None:
            parameters["password"] = self.administrator_password
        return make_conninfo("", **parameters)


def random_credentials() -> Credentials:
    """Return keys for the role."""
    return Credentials(os.urandom(32), os.urandom(32))
