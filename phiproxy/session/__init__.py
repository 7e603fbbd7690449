"""Floor 5: one client's conversation, sans-I/O.

What comes and goes:
    core, phases, client_messages, server_messages, extended_query, replies, results, opened_rows, ready_for_query, copy_data,
    long_messages, unprotected_database

How it begins, who acts, what they may see:
    startup_message, authentication, current_access_and_expiry, end_user_and_break_glass, client_encoding, nonconforming_strings

What a session knows:
    state, state_parts, pipeline, pending, named_objects, statements_and_portals, statement_effects, bound_parameters

What it asks, and waits for:
    needs, substitutes_and_questions, slow_work, holding, transaction_catalog

Split statements:
    split_execution, split_statements, split_replies, split_write_messages, split_explain, split_at_bind

What is said of errors, and to whom it is told:
    error_responses, error_scrub, ddl_replies, audited_executions, observer, trail
"""
