"""What ``check`` says of jobs: those that are at work, that wait, and that nobody works on any more."""

from phiproxy.commands.command_context import Connection
from phiproxy.jobs.records import OPEN, stored_jobs
from phiproxy.jobs.running import is_worked_on
from phiproxy.ops.database_check import Finding

TOPIC = "job"


async def check_jobs(conn: Connection, schema: str) -> list[Finding]:
    """Say of each job that is not over how it is. Raises psycopg.Error."""
    findings = []
    for job, progress in await stored_jobs(conn, schema):
        if job.state not in (*OPEN, "failed"):
            continue
        where = f", {progress.phase}" if progress.phase else ""
        if job.state == "running" and await is_worked_on(conn, job.id):
            findings.append(Finding("note", TOPIC, f"{job.subject} is at work{where}"))
            continue
        state = "was broken off" if job.state == "running" else "has failed" if job.state == "failed" else "is paused"
        text = f"{job.subject} {state}{where}: `phiproxy jobs resume {job.id}` goes on, `phiproxy jobs abort {job.id}` ends it"
        findings.append(Finding("warning", TOPIC, text))
    return findings
