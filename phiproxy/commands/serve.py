"""``phiproxy serve``: the composition root does it, in this process or in several."""

from pathlib import Path

import structlog

from phiproxy import app, serve_workers
from phiproxy.commands.command_context import read_settings
from phiproxy.errors import PhiproxyError, address
from phiproxy.ops.logs import set_up_logging
from phiproxy.ops.memory import forbid_core_dumps
from phiproxy.policy.settings import Log

log = structlog.get_logger("phiproxy")


def serve(config: Path) -> int:
    """Run the proxy until it is told to stop; PhiproxyError or OSError when it cannot start and its log is for people.

    Where the log is JSON, why it cannot start is a line of it, also before the file has said the format: then it is the default's.
    """
    as_json = set_up_logging(Log())
    try:
        settings = read_settings(config)
        as_json = set_up_logging(settings.log)
        forbid_core_dumps()
        (app if settings.worker_count == 1 else serve_workers).serve(settings, path=config)
    except PhiproxyError as error:
        if not as_json:
            raise
        log.critical("cannot start", complaints=error.message.split("\n"), hint=error.hint, see=address(error.anchor))
        return 1
    except Exception as error:
        if not as_json:
            raise
        log.critical("cannot start", exc_info=error)
        return 1
    return 0
