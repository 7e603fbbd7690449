"""``phiproxy serve``: the composition root does it."""

from __future__ import annotations

from pathlib import Path

from phiproxy import app
from phiproxy.commands.context import read_settings


def serve(config: Path) -> int:
    """Run the proxy until it is told to stop; PhiproxyError when it cannot start."""
    app.serve(read_settings(config), path=config)
    return 0
