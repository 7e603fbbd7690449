"""Processes of this test, and the cores that the operating system says they may use."""

import os
import subprocess
import sys

import pytest

from benchmarks import pinning

SLEEPER = "import threading; threading.Thread(target=input).start()"


@pytest.mark.skipif(not pinning.possible(), reason="one core")
def test_what_is_measured_has_a_core_of_its_own() -> None:
    every = os.sched_getaffinity(0)
    start = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(start, stdin=subprocess.PIPE) as server, subprocess.Popen(start, stdin=subprocess.PIPE) as proxy:
        with pinning.apart([proxy.pid], server.pid):
            own = os.sched_getaffinity(proxy.pid)
            assert len(own) == 1
            assert os.sched_getaffinity(0) == os.sched_getaffinity(server.pid) != own
            child = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
            assert subprocess.check_output(child) == b"1\n"
        assert os.sched_getaffinity(0) == os.sched_getaffinity(server.pid) == os.sched_getaffinity(proxy.pid) == every
        server.communicate(b"\n")
        proxy.communicate(b"\n")


@pytest.mark.skipif(not pinning.possible(), reason="one core")
def test_a_process_that_has_ended_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    with pinning.apart([ended.pid], os.getpid()):
        pass
    assert len(os.sched_getaffinity(0)) > 1
