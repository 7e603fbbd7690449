"""What ``phiproxy check`` says of the engine: whether it is there, and computes as the server does."""

from __future__ import annotations

from phiproxy.commands.command_context import Connection
from phiproxy.engine.definitions import read_definitions
from phiproxy.engine.engine import Engine
from phiproxy.engine.identity import read_identity
from phiproxy.engine_for_sessions import questions, running
from phiproxy.errors import PhiproxyError
from phiproxy.ops.database_check import Finding
from phiproxy.ops.logs import set_up_logging
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Log, Settings

OFF = "compute.engine is off: what the server cannot answer over ciphertext is refused"


async def check_engine(settings: Settings, policy: Policy, conn: Connection) -> list[Finding]:
    """Start it, or reach it, have it make a database like the server's, and compare the two."""
    if settings.compute.engine == "off":
        return [Finding("ok", "engine", OFF)]
    set_up_logging(Log(level="warning"))  # that it runs is no news here
    try:
        version = conn.info.server_version
        async with conn.transaction():
            await conn.execute("SET LOCAL search_path TO pg_catalog")
            identity, definitions = [await (await conn.execute(query.encode())).fetchone() for query in questions(version)]
        assert identity is not None
        assert definitions is not None
        async with running(settings, [policy]) as access:
            assert access is not None
            engine = Engine(access, settings.compute)
            try:
                database = await engine.database(read_identity(version, identity), read_definitions(definitions[0]))
            finally:
                await engine.close()
    except PhiproxyError as error:
        return [Finding("error", "engine", error.message + (f"; {error.hint}" if error.hint else ""))]
    findings = [Finding(level, "engine", text) for level, text in database.comparison.findings(settings.compute)]
    lacking = ", ".join(sorted(database.created.missing.values()))
    return [*findings, *([Finding("ok", "engine", f"these types are not there: {lacking}")] if lacking else [])]
