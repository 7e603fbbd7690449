"""phiproxy: health data encrypted between the application and PostgreSQL, or refused.

The command line:
    __main__, cli, cli_audit, cli_jobs, cli_options

The proxy, its processes, and another configuration while it runs:
    app, serve_workers, worker, reload, readiness, measuring, telemetry

One database that is served:
    served_database, database_snapshot, database_keys, tenant, seen_database, announcements, held_statements,
    engine_for_sessions, observation

The audit log of a process:
    audit_root, audit_service

What all packages use:
    errors, frozen, effects, long_values
"""

__version__ = "0.2.0"
