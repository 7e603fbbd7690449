"""Long work over tables that are in use: what is recorded of it, how its rows are gone through, and what it waits for.

What each command does:
    encrypt, decrypt, recrypt, reindex, respond, incident, run_or_abort, rewriting_looks
``run_or_abort`` runs a job by its kind to the end, or takes back what it has added.

How rows are gone through:
    running, sight, records, batches, refused_rows, batch_size, row_sql, filling, tagging, tenant_rows, throttle, display
``batches`` writes a few rows at a time, with the progress, so that a killed job goes on; ``sight``: as a replica and past
row-level security.

Tables and columns, and what hangs on them:
    chosen_columns, identity_tables, relations, stored_columns, dependents, converted_foreign_keys, dependent_views,
    dependent_others, column_privileges, column_settings, kept_not_null, local_columns, renamed_columns, disk, logged_in_clear
``column_privileges`` puts the privileges and the comment of a converted column back, ``kept_not_null`` its NOT NULL.

What is made of them:
    conversion, conversion_sql, converted_indexes, index_settings, physical_definitions, plain_definitions, resealed_definitions,
    resealed_views, restored_constraints, tag_columns, tag_indexes

The moment in which one takes the place of the other:
    switching, short_locks

Values:
    sealed_values, binary_arrays, bytes_of_text, schemes, openpgp
"""
