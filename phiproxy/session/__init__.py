"""Floor 5: one client's conversation, sans-I/O.

What comes and goes:
    core, phases, client_messages, server_messages, extended_query, replies, results, opened_rows, ready_for_query, copy_data,
    long_messages, unprotected_database
``long_messages`` passes a message on while it still arrives; ``opened_rows`` opens the rows of a result.

How it begins, who acts, what they may see:
    startup_message, authentication, current_access_and_expiry, end_user_and_break_glass, client_encoding, backslash_escapes

What a session knows:
    state, state_parts, pipeline, pending, named_objects, statements_and_portals, statement_effects, bound_parameters
``statement_effects`` follows SET and the search path; ``state_parts`` is what ``state`` is made of; ``pipeline``: whose reply
comes next.

What it asks, and waits for:
    needs, substitutes_and_questions, slow_work, holding, transaction_catalog

Split statements:
    split_execution, split_statements, split_replies, split_write_messages, split_explain, split_at_bind
``split_at_bind``: no index answers the values that Bind gives, so the statement is split for these.

What is said of errors, and to whom it is told:
    error_responses, error_scrub, ddl_replies, audited_executions, observer, trail
``audited_executions`` counts what each execution opened and whom it was about, for the audit log, which ``trail`` tells.
"""
