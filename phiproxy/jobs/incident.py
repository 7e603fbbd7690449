"""The incident file of ``respond``: what is known of a compromise, and of what nothing is known, in the order in which it is asked.

The four factors are those of 45 CFR 164.402(2). Nothing in it is a value.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from psycopg import sql

from phiproxy.jobs.relations import rows_of
from phiproxy.jobs.running import Run
from phiproxy.keys.registry_schema import table


@dataclass(frozen=True, slots=True)
class Incident:
    """What is known when a job has come to its end."""

    title: str
    database: str
    deployment: str
    reason: str
    who: str
    began: str
    ended: str
    since: str
    keys: tuple[str, ...]
    under: Mapping[str, int]
    of_kek: bool
    indexes: tuple[str, ...]
    steps: tuple[str, ...]

    @classmethod
    async def of(cls, run: Run, keys: Iterable[int]) -> "Incident":
        """Collect it of the registry, after the last step."""
        site, job = run.site, run.job
        now = datetime.now(UTC).isoformat(timespec="seconds")
        query = sql.SQL("SELECT at, database_user, os_user, what, subject FROM {} WHERE at >= %s ORDER BY id")
        events = await rows_of(run.conn, query.format(table(site.schema, "event")).as_string(run.conn), job.started)
        steps = [
            f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} {what}: {subject} ({os}, {user})" for at, user, os, what, subject in events
        ]
        under = {name.removeprefix("under "): n for name, n in run.progress.counts.items() if name.startswith("under ")}
        layout = await site.registry.layout()
        moved = [f"{i.identity}: {s.expression}" for i in layout.identities.values() for s in i.slots if s.state == "active"]
        return cls(
            title=f"data key {job.options['keys'][0]}" if job.options["keys"] else f"KEK {job.options['kek']}",
            database=site.policy.database, deployment=site.policy.deployment, reason=job.options["reason"], who=job.who,
            began=job.started.isoformat(timespec="seconds"), ended=now, since=job.options["from"],
            keys=tuple(f"{key:08x}" for key in sorted(keys)), under=under,
            of_kek=bool(job.options["roots"]), indexes=tuple(moved), steps=tuple(steps),
        )  # fmt: skip

    @property
    def text(self) -> str:
        """The file, in Markdown."""
        columns = "\n".join(f"| {label} | {count} |" for label, count in sorted(self.under.items())) or "| (none) | 0 |"
        known = ", ".join(label for label, count in sorted(self.under.items()) if count) or "no column"
        values = {
            **{
                name: getattr(self, name)
                for name in ("title", "database", "deployment", "reason", "who", "began", "ended", "since")
            },
            "columns": columns,
            "known": known,
            "keys": ", ".join(self.keys) or "none",
            "of_kek": _OF_KEK.format(indexes="; ".join(self.indexes) or "there were none") if self.of_kek else "",
            "audit": NO_AUDIT,
            "steps": "\n".join(f"- {step}" for step in self.steps),
        }
        return _TEXT.format(**values)


NO_AUDIT: Final = "Not known: there is no audit log of reads."
_TEXT: Final = """\
# Incident: {title}

Database {database}, deployment {deployment}. Reported by {who}: {reason}

| | |
|---|---|
| values were under it from | {since} |
| the response began | {began} |
| nothing was under it any more | {ended} |

## What was under it when the response began

| column | values |
|---|---|
{columns}

Data keys: {keys}. Which persons these values are of, the rows' other columns say; no column is declared to name the subject, so
phiproxy cannot count them.
{of_kek}
## Who has read it in that time

{audit}

## The four factors (45 CFR 164.402(2))

1. *Nature and extent of the information, and how likely a person is identified by it.* Values of {known}. How likely that is, is
   yours to say.
2. *The unauthorized person who used it, or to whom it was disclosed.* Not known to phiproxy. Reported: {reason}
3. *Whether it was actually acquired or viewed.* Not known. The key opens nothing without a copy of the stored values. Of what was
   read through the proxy: {audit}
4. *To which extent the risk has been mitigated.* Since {ended} no value in the database is under the key, and phiproxy opens
   nothing under it. Copies from before are as they were: backups, archived WAL, replicas that are behind, dumps.

## What was done

{steps}

Digest of the audit log: none, since there is no audit log.
"""
_OF_KEK: Final = """
The keys of blind indexes were under it too. Who has them, and a copy of the tables from before, can tell equal values from others,
and try values that he guesses. Indexes that go by other keys now: {indexes}. The registry key was under it as well: it
authenticates the registry and encrypts no value; it is wrapped anew, and has not been replaced.
"""


async def write_incident(path: Path, incident: Incident) -> None:
    """Write the file, for its owner only; one that is there from an earlier attempt is replaced."""
    await asyncio.to_thread(_write, path, incident.text)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with open(beside, "x", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(text)
    beside.replace(path)
