"""What can go wrong at the engine, as the client is told. No text here has a value in it, the engine's own message least of all."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import PhiproxyError, StatementFailed


class EngineUnavailable(PhiproxyError):
    """The engine is not there, or ended while it computed (57P03); trying again helps."""

    sqlstate = "57P03"
    anchor = "err-engine"


class LimitExceeded(PhiproxyError):
    """A statement opens more than ``compute.limits`` allows (54000)."""

    sqlstate = "54000"
    anchor = "err-engine"


class EngineTimeout(PhiproxyError):
    """A statement, or its wait for a session of the engine, takes longer than ``compute.limits.timeout`` (57014)."""

    sqlstate = "57014"
    anchor = "err-engine"


class EngineFull(PhiproxyError):
    """The engine has no room: its memory, its directory or its temporary files are full (53200)."""

    sqlstate = "53200"
    anchor = "err-engine"


class EngineDisagrees(PhiproxyError):
    """The engine did not take what is around a statement: its session's settings, or its source's rows (XX000)."""

    anchor = "err-engine"


# disk_full, out_of_memory, configuration_limit_exceeded: temp_file_limit, in the engine's words with the names of its files.
_FULL = frozenset({"53100", "53200", "53400"})
# admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
_GONE = frozenset({"57P01", "57P02", "57P03", "57P04"})


def failure(fields: Sequence[tuple[int, bytes]], position: int | None = None) -> PhiproxyError:
    """Return the exception for an ErrorResponse of the engine."""
    failed = StatementFailed(fields, position)
    if failed.state in _FULL:
        return EngineFull(
            "the engine has no room for what this statement computes",
            hint="narrow the statement, or give compute.directory more room",
        )
    if failed.state in _GONE:
        return EngineUnavailable("the engine ended while it computed", hint="try again")
    return failed
