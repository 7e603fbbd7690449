"""What the server's log keeps of the values that ``decrypt`` writes, which are parameters of its statements."""

from typing import Final

from phiproxy.jobs.relations import Connection, rows_of
from phiproxy.policy.identifiers import quote_ident

# Which of these have it logged; those of a statement that fails are never logged of a job (phiproxy/jobs/sight.py).
_LOGGED: Final = """
SELECT name || ' = ' || setting FROM pg_catalog.pg_settings
 WHERE name = 'log_statement' AND setting IN ('mod', 'all')
    OR name IN ('log_min_duration_statement', 'log_min_duration_sample') AND setting <> '-1'
    OR name = 'log_transaction_sample_rate' AND setting::float8 > 0
 ORDER BY name
"""
_WITH_PARAMETERS: Final = """
SELECT session_user::text FROM pg_catalog.pg_settings WHERE name = 'log_parameter_max_length' AND setting <> '0'
"""


async def logged_in_clear(conn: Connection) -> list[str]:
    """Say by which settings of this session the server logs what is written in clear, and how it does not; psycopg.Error."""
    logged, roles = await rows_of(conn, _LOGGED), await rows_of(conn, _WITH_PARAMETERS)
    if not logged or not roles:
        return []
    by, role = ", ".join(name for (name,) in logged), quote_ident(roles[0][0])
    return [
        f"the server's log keeps the values as they are written in clear ({by}), unless for the time of the job a superuser says"
        f" ALTER ROLE {role} SET log_parameter_max_length = 0"
    ]
