"""Statements other than queries and writes: COPY, PREPARE, DDL and the other utility statements.

DDL is in ``ddl``.

COPY, EXPLAIN, prepared statements and cursors:
    copy, explain, prepare_and_cursors

SET and all other utility statements:
    utility, set_end_user_and_reason, fixed_settings
``fixed_settings`` refuses to change what is fixed during a session: the setting of its tenant, and array_nulls.

Queries that touch nothing protected:
    unprotected

Whom rows are about, for the audit log:
    subjects_of_statement
"""
