"""PostgreSQL's programs as a suite that starts servers by itself can use them: as root they become an unprivileged user."""

from __future__ import annotations

import shlex
from pathlib import Path

from phiproxy.postgres.binaries import Runner

NAMES = ("initdb", "pg_basebackup", "pg_config", "pg_ctl", "pg_resetwal", "postgres")


def programs(bindir: Path, who: Runner, into: Path) -> Path:
    """Return a directory of programs: PostgreSQL's own, or scripts that hand the data directory to ``who`` and become it."""
    if who.uid is None:
        return bindir
    into.mkdir()
    for name in NAMES:
        script = into / name
        script.write_text(
            "#!/bin/sh\n"
            "previous=\n"
            'for argument; do\n  [ "$previous" = -D ] && chown -R ' + f"{who.uid}:{who.gid}" + ' "$argument"\n'
            "  previous=$argument\ndone\n"
            f'exec {shlex.join(who.command(bindir / name))} "$@"\n'
        )
        script.chmod(0o755)
    return into
