"""The incident file of ``respond``: what is known of a compromise, and of what nothing is known, in the order in which it is asked.

The four factors are those of 45 CFR 164.402(2). Nothing in it is a value.
"""

import asyncio
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from psycopg import sql

from phiproxy.audit.activity import Read, activity
from phiproxy.audit.reading import left_behind, records, stored_files
from phiproxy.errors import ConfigError
from phiproxy.jobs.relations import rows_of
from phiproxy.jobs.running import Run
from phiproxy.keys.registry_schema import table
from phiproxy.policy.settings import Audit


@dataclass(frozen=True, slots=True)
class Reads:
    """What the audit log says of the keys: ``opened`` by (person, column), and its ``heads``, of each writer the last.

    ``unknown``: why nothing is known. ``begins``: what was before is in no file any more.
    """

    unknown: str = "there is no audit log of reads"
    directory: str = ""
    opened: Mapping[tuple[str, str], Read] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    begins: str = ""

    @classmethod
    def of(cls, audit: Audit, database: str, keys: Collection[str]) -> "Reads":
        """Look through the files of a log for executions that have opened values of a database under these keys."""
        if not audit.enabled:
            return cls()
        if audit.directory is None:
            return cls("the audit log is where proxies send it, not in files here; look there for the keys")
        directory = Path(audit.directory)
        try:
            executions = (record for record in records(directory) if record["kind"] == "execution")
            own = (record for record in executions if record.get("database") == database)
            under = activity(record for record in own if not record.get("keys", {}).keys().isdisjoint(keys)).reads
            counted = {(str(who), column): read for (_, who, column), read in under.items() if read.opened or read.masked}
            files = stored_files(directory)
            begins, writers = min(file.begun for file in files), sorted({file.writer for file in files})
            heads = [head for writer in writers if (head := left_behind(directory, writer).head) is not None]
        except (ConfigError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # one that somebody has changed
            return cls(f"the audit log in {directory} cannot be read here ({type(error).__name__}); look there for the keys")
        told = tuple(f"{head['file']}: {head['size']} records, root {head['root']}" for head in heads)
        return cls("", str(directory), counted, told, f"{begins[:15]}Z")

    @property
    def text(self) -> str:
        """Who has read what, as a table."""
        if self.unknown:
            return f"Not known: {self.unknown}."
        log = f"the audit log in {self.directory} says, which begins at {self.begins}"
        said = f"As {log}, of what was read through the proxies that write there:"
        if not self.opened:
            return f"{said} nobody has opened a value under it."
        rows = [
            f"| {_cell(who)} | {_cell(column)} | {r.executions} | {r.opened} | {r.masked} | {r.first[:19]} | {r.last[:19]} |"
            for (who, column), r in sorted(self.opened.items())
        ]
        return f"{said}\n\n{_READERS}\n" + "\n".join(rows)

    @property
    def digest(self) -> str:
        """The heads of the log, each of which proves what its writer has written before."""
        if not self.heads:
            return f"Digest of the audit log: none, since {self.unknown or 'it is empty'}."
        heads = "\n".join(f"- {head}" for head in self.heads)
        said = "Digest of the audit log, of each writer the head of its last file, which proves those before"
        return f"{said} (`phiproxy audit verify`):\n\n{heads}"


_READERS: Final = """\
| who | column | executions | values opened | for masks | first | last |
|---|---|---|---|---|---|---|"""


def _cell(text: str) -> str:
    """Return a name as a table takes it: an end user's is anything."""
    return " ".join(text.split()).replace("|", "\\|")


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
    reads: Reads
    subjects: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    async def of(cls, run: Run, keys: Iterable[int]) -> "Incident":
        """Collect it of the registry, after the last step."""
        site, job = run.site, run.job
        now = datetime.now(UTC).isoformat(timespec="seconds")
        names = tuple(f"{key:08x}" for key in sorted(keys))
        query = sql.SQL("SELECT at, database_user, os_user, what, subject FROM {} WHERE at >= %s ORDER BY id")
        events = await rows_of(run.asking, query.format(table(site.schema, "event")).as_string(run.asking), job.started)
        steps = [
            f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} {what}: {subject} ({os}, {user})" for at, user, os, what, subject in events
        ]
        under, subjects, rows = (
            {name.removeprefix(of): n for name, n in run.progress.counts.items() if name.startswith(of)}
            for of in ("under ", "subjects of ", "rows of ")
        )
        layout = await site.registry.layout()
        moved = [f"{i.identity}: {s.expression}" for i in layout.identities.values() for s in i.slots if s.state == "active"]
        return cls(
            title=f"data key {job.options['keys'][0]}" if job.options["keys"] else f"KEK {job.options['kek']}",
            database=site.policy.database, deployment=site.policy.deployment, reason=job.options["reason"], who=job.who,
            began=job.started.isoformat(timespec="seconds"), ended=now, since=job.options["from"],
            keys=names, under=under, of_kek=bool(job.options["roots"]), indexes=tuple(moved), steps=tuple(steps),
            subjects=subjects, rows=rows,
            reads=await asyncio.to_thread(Reads.of, site.settings.audit, site.policy.database, set(names)),
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
            "rows": "; ".join(f"{label}: {count}" for label, count in sorted(self.rows.items()) if count) or "none were counted",
            "subjects": self._persons,
            "readers": self.reads.text,
            "of_readers": self.reads.text if self.reads.unknown else "who has opened what of it is above.",
            "digest": self.reads.digest,
            "steps": "\n".join(f"- {step}" for step in self.steps),
        }
        return _TEXT.format(**values)

    @property
    def _persons(self) -> str:
        """How many persons rows with values under it are about, and of what that is not known."""
        if not self.subjects:
            return _NO_SUBJECTS
        counted = "; ".join(f"{by}: {count}" for by, count in sorted(self.subjects.items()))
        relations = tuple(f"{by.rpartition(', by ')[0]}." for by in self.subjects)
        others = [label for label, count in sorted(self.under.items()) if count and not label.startswith(relations)]
        return f"{counted}. Not counted: rows in which that is NULL" + (f", and rows with {', '.join(others)}" if others else "")


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

Data keys: {keys}. Rows with such values: {rows}. Persons that they are about: {subjects}.
{of_kek}
## Who has read it in that time

{readers}

## The four factors (45 CFR 164.402(2))

1. *Nature and extent of the information, and how likely a person is identified by it.* Values of {known}. How likely that is, is
   yours to say.
2. *The unauthorized person who used it, or to whom it was disclosed.* Not known to phiproxy. Reported: {reason}
3. *Whether it was actually acquired or viewed.* Not known. The key opens nothing without a copy of the stored values. Of what was
   read through the proxy: {of_readers}
4. *To which extent the risk has been mitigated.* Since {ended} no value in the database is under the key, and phiproxy opens
   nothing under it. Copies from before are as they were: backups, archived WAL, replicas that are behind, dumps.

## What was done

{steps}

{digest}
"""
_NO_SUBJECTS: Final = "not known, as the policy names no `subject` of these tables that could be counted; other columns say it"
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
