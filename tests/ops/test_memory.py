"""No cores: seen in a process of its own, which dies of a signal that dumps one. So is what the collector passes by."""

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


FORBIDDEN_ALREADY = """
import os, resource
from phiproxy.ops.memory import forbid_core_dumps
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if os.getuid() == 0:  # root may raise the limit again
    os.setresuid(65534, 65534, 65534)
forbid_core_dumps()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
"""


def test_a_limit_of_zero_that_may_not_be_raised_stays() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", FORBIDDEN_ALREADY], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


SETTLED = """
import gc
from phiproxy.ops.memory import YOUNG, settle_memory
lasting = [[] for _ in range(1000)]
settle_memory()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[0] == YOUNG
kept = [object() for _ in range(10)]
cycle = []
cycle.append(cycle)
del cycle
assert gc.collect() >= 1
"""


def test_what_is_there_when_it_starts_is_not_looked_through_again() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", SETTLED], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
