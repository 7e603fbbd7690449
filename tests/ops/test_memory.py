"""No cores: seen in a process of its own, which dies of a signal that dumps one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

CODE = """
import os, resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
from phiproxy.ops.memory import forbid_core_dumps
forbid_core_dumps()
assert resource.getrlimit(resource.RLIMIT_CORE) == (1, 1)
os.abort()
"""


def test_an_aborted_process_leaves_no_core(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert list(tmp_path.iterdir()) == []
