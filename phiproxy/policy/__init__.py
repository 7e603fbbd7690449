"""Floor 2: what is protected, and what the database looks like; knows no bytes and no SQL text.

The two files:
    load, yaml_reader, model, settings, setting_values, access_model, document_columns, identifiers, json_schema, kek_schemes,
    kek_uris

The server's catalogue:
    catalog, catalog_rows, column_types, user_types, signatures, signature_queries, inheritance, dependencies, sealed_definitions

Both joined: what is protected now:
    bind, protection, registry_layout, imagined_layout, column_states, column_order, boundary, subject_columns, view_rests

How it is on disk:
    physical_columns, physical_documents, plaintext_guards, document_listing
``plaintext_guards``: the CHECK of a sealed column, or of a document with sealed fields, that lets no plaintext in.

Conditions that the proxy evaluates:
    check_evaluation, condition_sql, regular_expressions
"""
