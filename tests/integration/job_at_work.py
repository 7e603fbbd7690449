"""A job as a process of its own that something happens to while it is at work, and is gone on with until it is done."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from tests.harness.forks import Forked, forked
from tests.harness.proxy import ROOT, environment, run_cli
from tests.harness.site import Site
from tests.harness.waiting import until

EXPLORING = bool(os.environ.get("PHIPROXY_EXPLORE"))


@dataclass
class Job:
    """A command of phiproxy at work; what it says is read at its end."""

    process: Forked
    output: IO[bytes]
    _said: str = ""

    @property
    def returncode(self) -> int | None:
        """Its exit status, when it has ended."""
        return self.process.poll()

    def wait(self, timeout: float) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired``."""
        return self.process.wait(timeout)

    def steps(self) -> Iterator[str]:
        """Yield the steps that it says that it is at, of a job with ``--json``, as it says them; until its end."""
        at, said = 0, b""
        while True:
            ended = self.returncode is not None
            while part := os.pread(self.output.fileno(), 1 << 16, at):  # where it writes is the file's own place
                at, said = at + len(part), said + part
            *lines, said = said.split(b"\n")
            yield from (json.loads(line)["phase"] for line in lines if line.startswith(b'{"phase"'))
            if ended:
                return
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        self.process.kill()
        self.said()

    def said(self) -> str:
        """Wait for its end and return what it has said."""
        self.process.wait(480)
        if not self.output.closed:
            with self.output:
                self.output.seek(0)
                self._said = self.output.read().decode()
        return self._said


Fault = Callable[[Job], None]
"""What happens to a job that is at work, or to what it needs: all that it needs is there again when this returns."""


def started(site: Site, *arguments: str) -> Job:
    """Start a command of phiproxy: a fork, so that what happens to it does so at its work, not while it imports."""
    output = tempfile.TemporaryFile()  # noqa: SIM115 - is the job's
    return Job(forked([*arguments, "-c", str(site.config)], environment(site.env), str(ROOT), output, output), output)


def jobs_of(site: Site) -> list[tuple[str, str]]:
    """Return number and state of all jobs."""
    return [(str(job["id"]), job["state"]) for job in listed(site)]


def listed(site: Site) -> list[dict[str, Any]]:
    """Return what is said of all jobs."""
    jobs: list[dict[str, Any]] = json.loads(site.cli("jobs", "--json"))
    return jobs


def killed_at_each_step(
    site: Site, arguments: list[str], step: Callable[[str], str] = str, *, between: Callable[[], object] = lambda: None
) -> list[str]:
    """Run a command that starts a job, kill it when it says that it is at a step for the first time, and go on until it is done.

    Returns the steps, as ``step`` calls them. ``between`` is called after each kill.
    """
    before, steps = jobs_of(site), list[str]()
    while True:
        job = started(site, *arguments, "--json")
        new = next((name for name in map(step, job.steps()) if name not in steps), None)
        if new is None:
            said = job.said()
            assert job.returncode == 0, said
            assert jobs_of(site)[-1][1] == "done", said
            return steps
        job.kill()
        steps.append(new)
        let_go(site)
        between()
        if jobs := [each for each in jobs_of(site) if each not in before]:
            number, state = jobs[-1]
            if state == "done":  # it was at its very end
                return steps
            arguments = ["jobs", "resume", number]


def let_go(site: Site) -> None:
    """Wait until the server has noticed that a job was killed: what that was at goes on until then, and nobody else works on it."""
    until(lambda: not any(each["worked_on"] for each in listed(site)), "the job that was killed is worked on", 240)


def gone_on_with(site: Site, number: str, why: str | None = None) -> None:
    """Go on with a job of one attempt until it is done, or ends for this reason: a slow machine may need some, or give another."""

    def resumed() -> bool:
        done = run_cli("jobs", "resume", number, "-c", str(site.config), env=site.env)
        return done.returncode == 0 if why is None else why in done.stderr

    until(resumed, why or "the job is done", 400)


def killed(job: Job) -> None:
    """Kill -9."""
    job.kill()


def done_despite(
    site: Site,
    arguments: list[str],
    fault: Fault,
    most: int,
    chance: random.Random,
    *,
    pause: tuple[float, float] = (0.1, 1.0),
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
        said = job.said()
        assert "internal error" not in said, said
        jobs = [each for each in jobs_of(site) if each not in before]
        if job.returncode == 0 or (jobs and jobs[-1][1] == "done"):
            return faults
        assert faults, said
        if jobs:
            arguments = ["jobs", "resume", jobs[-1][0]]
