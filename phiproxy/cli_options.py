"""Options that several commands have, and how a command ends."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", envvar="PHIPROXY_CONFIG", help="phiproxy.yaml")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Database = Annotated[
    str | None, typer.Option("--database", "-d", metavar="NAME", help="Which policy's database, where there are several.")
]
CONFIG: Final = Path("phiproxy.yaml")


def leave(code: int | Coroutine[Any, Any, int]) -> NoReturn:
    """Run the command, unless it was run, and end with its exit code."""
    raise typer.Exit(code if isinstance(code, int) else asyncio.run(code))
