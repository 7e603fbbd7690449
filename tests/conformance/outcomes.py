"""The outcomes of a foreign suite, test by test, and the tests in which two runs of it differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.plugins.outcomes import ONLY, REPORT

PLUGINS = Path(__file__).parent / "plugins"
# what our own pytest brings along and no suite here knows
UNWANTED = ("randomly", "cacheprovider", "asyncio", "hypothesispytest", "pastebin")
# asyncpg's own tests of its pool fail once in six runs on a machine that is busy, directly too.
ATTEMPTS = 8


@dataclass(frozen=True)
class Outcome:
    """How a test ended, and its last words where it failed."""

    verdict: str
    words: str = ""


Outcomes = Mapping[str, Outcome]
Run = Callable[[Sequence[str] | None], Outcomes]
ABSENT = Outcome("absent")


@dataclass(frozen=True)
class Suite:
    """A foreign suite: where it lies, and pytest's arguments for it."""

    directory: Path
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    patience: float = 1200

    def run(self, report: Path, only: Sequence[str] | None = None) -> Outcomes:
        """Run it, or only the tests named, and return what came of each."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PHIPROXY_", "PYTEST_", "COV_"))}
        env = {**kept, "PYTHONPATH": str(PLUGINS), **self.environment, REPORT: str(report), ONLY: json.dumps(only)}
        unwanted = [argument for name in UNWANTED for argument in ("-p", f"no:{name}")]
        # -s: SQLAlchemy's conftest puts the sdist's package before the installed one unless there are no user sites
        command = [sys.executable, "-s", "-m", "pytest", "-q", "-p", "outcomes", "--timeout=200", *unwanted, *self.arguments]
        report.unlink(missing_ok=True)
        with report.with_suffix(".log").open("w", encoding="utf-8") as log:
            subprocess.run(
                command,
                cwd=self.directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                timeout=self.patience,
            )
        assert report.exists(), f"the suite did not end:\n{report.with_suffix('.log').read_text('utf-8', 'replace')[-3000:]}"
        return {test: Outcome(*found) for test, found in json.loads(report.read_text("utf-8")).items()}


def count(outcomes: Outcomes, verdict: str) -> int:
    """Return how many tests ended so."""
    return sum(outcome.verdict == verdict for outcome in outcomes.values())


def differing(direct: Outcomes, proxied: Outcomes) -> list[str]:
    """Return the tests that did not end alike."""
    tests = dict.fromkeys([*direct, *proxied])
    return [t for t in tests if direct.get(t, ABSENT).verdict != proxied.get(t, ABSENT).verdict]


def differences(
    direct: Outcomes, proxied: Outcomes, again: tuple[Run, Run], steady: tuple[str, ...] = ()
) -> dict[str, tuple[Outcome, Outcome]]:
    """Return the tests that differ, and differ again each time they are run alone on both sides; says which do not.

    Those whose names end in one of ``steady`` are not run again.
    """
    left = {test: (direct.get(test, ABSENT), proxied.get(test, ABSENT)) for test in differing(direct, proxied)}
    kept = {test: left.pop(test) for test in list(left) if test.endswith(steady)}
    for _ in range(ATTEMPTS):
        if not left:
            break
        one, other = (run(list(left)) for run in again)
        still = set(differing(one, other))
        for test in sorted(left.keys() - still):
            print(f"unsteady: {test} was {left[test][0].verdict} directly and {left[test][1].verdict} through the proxy, once")
        left = {test: (one.get(test, ABSENT), other.get(test, ABSENT)) for test in left if test in still}
    return kept | left


def describe(found: Mapping[str, tuple[Outcome, Outcome]]) -> str:
    """Return the differences as a failure's text."""
    return "\n".join(
        f"{test}: {direct.verdict} directly, {proxied.verdict} through the proxy\n{(proxied.words or direct.words).strip()}"
        for test, (direct, proxied) in found.items()
    )
