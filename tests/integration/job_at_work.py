"""A job as a process of its own that something happens to while it is at work, and is gone on with until it is done."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable

from tests.harness.proxy import ROOT, command, environment
from tests.harness.site import Site

EXPLORING = bool(os.environ.get("PHIPROXY_EXPLORE"))

Job = subprocess.Popen[str]
Fault = Callable[[Job], None]
"""What happens to a job that is at work, or to what it needs: all that it needs is there again when this returns."""


def started(site: Site, *arguments: str) -> Job:
    """Start a command of phiproxy; what it says comes in one piece at its end."""
    return subprocess.Popen(
        command(*arguments, "-c", str(site.config)),
        env=environment(site.env),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def jobs_of(site: Site) -> list[tuple[str, str]]:
    """Return number and state of all jobs."""
    return [(str(job["id"]), job["state"]) for job in json.loads(site.cli("jobs", "--json"))]


def killed(job: Job) -> None:
    """Kill -9."""
    job.kill()
    job.wait()


def done_despite(
    site: Site,
    arguments: list[str],
    fault: Fault,
    most: int,
    chance: random.Random,
    *,
    pause: tuple[float, float] = (0.3, 2.0),
    between: Callable[[], object] = lambda: None,
) -> int:
    """Run a command that starts a job until that is done, and have the fault happen at random moments; returns how often it did.

    A job that has ended before its end is gone on with. ``between`` is called after each fault.
    """
    before, faults = jobs_of(site), 0
    while True:
        job = started(site, *arguments)
        while faults < most:
            try:
                job.wait(chance.uniform(*pause))
                break
            except subprocess.TimeoutExpired:
                fault(job)
                faults += 1
                between()
        said, _ = job.communicate(timeout=180)
        assert "internal error" not in said
        jobs = [each for each in jobs_of(site) if each not in before]
        if job.returncode == 0 or (jobs and jobs[-1][1] == "done"):
            return faults
        assert faults, said
        if jobs:
            arguments = ["jobs", "resume", jobs[-1][0]]
