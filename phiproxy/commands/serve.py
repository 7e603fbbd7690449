"""``phiproxy serve``: the composition root does it, in this process or in several."""

from __future__ import annotations

from pathlib import Path

from phiproxy import app, supervise
from phiproxy.commands.context import read_settings
from phiproxy.ops.memory import forbid_core_dumps


def serve(config: Path) -> int:
    """Run the proxy until it is told to stop; PhiproxyError when it cannot start."""
    settings = read_settings(config)
    forbid_core_dumps()
    (app if settings.worker_count == 1 else supervise).serve(settings, path=config)
    return 0
