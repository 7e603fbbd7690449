"""How many jobs a registry has, and how far the open ones are: for the metrics of who serves the database.

Nobody but people goes by it, so nothing is verified here (``jobs.records``).
"""

from collections import Counter
from typing import Final

from psycopg import sql

from phiproxy.keys.authenticated_tables import JOB, Connection, present_tables
from phiproxy.keys.registry_schema import table

COUNTED: Final = ("read", "written", "total")
"""What is told of the rows of open jobs; ``total`` is an estimate of those that there are."""
_IS_OPEN: Final = sql.SQL("j.state IN ('running', 'paused')")


class JobCounts:
    """Of one registry, as it was when it was looked at last; a look costs nothing while no job is open and nothing has changed."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._counter = -1
        self._is_open = False
        self.jobs: dict[tuple[str, str], int] = {}
        """How many there are by kind and state; what there are none of any more is 0."""
        self.rows: dict[tuple[str, str], int] = {}
        """Rows of the open ones by kind and by what of ``COUNTED`` they are; 0 where there are none of the kind any more."""

    async def follow(self, conn: Connection, counter: int) -> None:
        """Look where the registry's counter is another one, which each change of a job's state makes it. psycopg.Error."""
        if counter == self._counter and not self._is_open:
            return
        jobs, rows = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        if JOB in await present_tables(conn, self._schema):
            query = sql.SQL("SELECT j.kind, j.state, pg_catalog.count(*) FROM {job} j GROUP BY 1, 2")
            for kind, state, number in await (await conn.execute(self._sql(query))).fetchall():
                jobs[kind, state] = number
            query = sql.SQL(
                "SELECT j.kind, c.key, pg_catalog.sum(c.value::pg_catalog.numeric)::pg_catalog.int8"
                " FROM {job} j JOIN {progress} p ON p.job = j.id, pg_catalog.json_each_text(p.counts::pg_catalog.json) c"
                " WHERE {is_open} AND c.key = ANY (%s) GROUP BY 1, 2"
            )
            for kind, counted, number in await (await conn.execute(self._sql(query), (list(COUNTED),))).fetchall():
                rows[kind, counted] = number
        self.jobs = {**dict.fromkeys(self.jobs, 0), **jobs}
        self.rows = {**dict.fromkeys(self.rows, 0), **rows}
        self._counter, self._is_open = counter, any(state in ("running", "paused") for _, state in jobs)

    def _sql(self, query: sql.SQL) -> sql.Composed:
        return query.format(job=table(self._schema, "job"), progress=table(self._schema, "job_progress"), is_open=_IS_OPEN)
