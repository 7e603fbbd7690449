"""What is read of the operating system: compared with what a process knows of itself."""

import os
import subprocess
import sys
import time

from benchmarks.measures import cpu_seconds, family, machine, percentile, resident_kib


def test_cpu_seconds_are_those_of_the_process() -> None:
    before, own = cpu_seconds((os.getpid(),)), time.process_time()
    while time.process_time() - own < 0.2:
        pass
    assert abs((cpu_seconds((os.getpid(),)) - before) - 0.2) < 0.1


def test_a_family_has_the_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = family(os.getpid())
        assert found[0] == os.getpid()
        assert child.pid in found
        assert resident_kib(found) > resident_kib((os.getpid(),)) > 10_000
        child.communicate(b"\n")


def test_percentiles_are_the_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [51.0, 96.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0


def test_the_machine_is_named() -> None:
    said = machine()
    assert f"{os.cpu_count()} cores" in said["cpu"]
    assert said["python"].endswith(sys.version.split()[0])
