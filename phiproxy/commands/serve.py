"""``phiproxy serve`` and ``phiproxy explain``: both belong to the composition root."""

from __future__ import annotations

import asyncio
import inspect
import sys
from importlib import import_module
from pathlib import Path

from phiproxy.commands.context import load
from phiproxy.policy.load import load_settings


def serve(config: Path) -> int:
    """Run the proxy until it is told to stop."""
    return _finished(import_module("phiproxy.app").serve(load_settings(config)))


def explain(config: Path, sql: str) -> int:
    """Print what the server would see."""
    return _finished(import_module("phiproxy.app").explain(load(config).settings, sql))


def _finished(result: object) -> int:
    """Wait for a coroutine; print a text; return a code."""
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    if isinstance(result, str):
        sys.stdout.write(result if result.endswith("\n") else result + "\n")
    return result if isinstance(result, int) else 0
