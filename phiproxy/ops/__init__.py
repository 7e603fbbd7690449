"""Floor 6: what people who run the proxy see: surveys and checks of tables, DDL, log, metrics, health.

``check``: whether the database is as the policy needs it:
    database_check, boundary_check, physical_tables, stored_values, stored_key_ids, leakage, protected_columns

``ddl``: the SQL that it needs:
    ddl_script, ddl_documents

``init`` and ``observe``: which columns could be protected, and where statements are found:
    table_survey, likely_columns, first_configuration, statement_sources

A proxy that runs: log, metrics, health, memory:
    logs, stderr_to_log, metrics, otlp_metrics, otlp_traces, memory, service_manager
"""
