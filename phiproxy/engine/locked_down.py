"""What the role that runs rests may do: use temporary tables, and compute. Told to PostgreSQL once per cluster, and per database.

No volatile function may be called: with the pure ones and those that depend on the session only go all that write large objects,
notify, read files, run a text as SQL, or write what they are given into WAL.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from phiproxy.engine.access import ROLE

# Of the whole cluster. It says why it does not start, and nothing of a statement; what it says later is not kept either, since with
# a PANIC PostgreSQL always tells the statement too. Temporary tables are not in WAL, and without parallel workers no rows are in
# files of shared memory.
CLUSTER = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "64MB",
    "min_wal_size": "2MB",
    "wal_recycle": "off",
    "wal_init_zero": "off",
    "shared_buffers": "32MB",
    "max_prepared_transactions": "0",
    "max_worker_processes": "0",
    "max_parallel_workers_per_gather": "0",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # A backend that crashed has broken nothing of the others, but it may have left files: all is made anew.
    "restart_after_crash": "off",
    # Who computes for a proxy that is gone stops.
    "client_connection_check_interval": "1s",
}
# Of the role: a superuser's settings, which it cannot change; the last are for speed, and may be changed by nobody but it.
_OF_THE_ROLE = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_duration": "off",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_temp_files": "-1",
    "log_lock_waits": "off",
    "log_executor_stats": "off",
    "log_parser_stats": "off",
    "log_planner_stats": "off",
    "log_statement_stats": "off",
    "log_transaction_sample_rate": "0",
    "track_activities": "off",
    "track_functions": "none",
    "session_replication_role": "origin",
    "default_transaction_read_only": "on",
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",
    "work_mem": "32MB",
    "temp_buffers": "32MB",
    "search_path": "pg_catalog",
}


def make_role(verifier: str, temporary_files: int) -> list[sql.Composed]:
    """Return the statements that make the role anew; ``temporary_files``: how many bytes of them a session of it may have."""
    role = sql.Identifier(ROLE)
    drop = sql.SQL("DROP ROLE IF EXISTS {}").format(role)
    create = sql.SQL(
        "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS PASSWORD {}"
    ).format(role, sql.Literal(verifier))
    settings = {**_OF_THE_ROLE, "temp_file_limit": f"{max(temporary_files >> 10, 1)}kB"}
    alter = sql.SQL("ALTER ROLE {} SET {} = {}")
    return [drop, create, *(alter.format(role, sql.Identifier(k), sql.Literal(v)) for k, v in settings.items())]


def lock_database(name: str, schemas: Iterable[str]) -> list[sql.Composed]:
    """Return the statements that leave the role of a database only what it needs; ``schemas`` are those whose types it may use.

    They follow all that makes anything in it, since functions of extensions too are judged by whether they are volatile, in a
    session with ``allow_system_table_mods``.
    """
    role, database = sql.Identifier(ROLE), sql.Identifier(name)
    statements = [
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, role),
        sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC").format(),
        sql.SQL("REVOKE ALL ON LANGUAGE sql, plpgsql FROM PUBLIC").format(),
    ]
    statements += [sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role) for schema in schemas]
    return [*statements, sql.SQL(_NO_VOLATILE_FUNCTIONS).format()]


# In one UPDATE, as the types are: hundreds of REVOKEs would take longer than all else together.
_NO_VOLATILE_FUNCTIONS = """
UPDATE pg_catalog.pg_proc p SET proacl = ARRAY[pg_catalog.makeaclitem(p.proowner, p.proowner, 'EXECUTE', false)]
 WHERE p.provolatile = 'v' OR p.prokind = 'p' OR p.prosecdef
"""


def lock_maintenance() -> list[sql.Composed]:
    """Return the statements that keep the role out of the databases that initdb makes."""
    names = map(sql.Identifier, ("postgres", "template1"))
    return [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name) for name in names]
