"""Floor 4: from answer to closures run per message and per row.

From a statement to its plan:
    planner, plan_cache, compile, rewritten_text, statement_plan, parameter_types, search_path, named_statements,
    statements_behind

What is known of all texts of a shape:
    templates, simple_query_template, split_templates, long_inserts
``long_inserts``: INSERT of many rows of VALUES.

Values and rows:
    column_ciphers, slot_tags, sealed_columns, sealed_rows, convert_values, compiled_convert, document_ciphers, field_ciphers,
    spelled_values, value_formats, range_tags, result_columns, masked_values, copy_sealing, row_counts
``column_ciphers`` seals and opens a column's values, ``range_tags`` makes tags of a range's two bounds, ``convert_values`` takes
the values of one execution, many of them in slices.

What the server cannot answer:
    whether_split, split_plan, split_write_parameters, opened_view_rests, stored_query, converted_views, values_no_index_answers,
    refused_inputs, without_engine

What is told of it:
    explanation, forecast, statement_record, counted_subjects, subjects_of_execution, copy_subjects
``explanation`` is ``phiproxy explain``, ``forecast`` is ``phiproxy observe``; the others are for the audit log.
"""
