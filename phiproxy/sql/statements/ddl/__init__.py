"""An application's own migrations: DDL in the client's terms becomes DDL in physical form (spec/sql 4).

Tables and their columns:
    create_table, create_table_as, alter_table, column_definitions, computed_defaults, rename, physical_form

Indexes and keys:
    create_index, drop_index, field_indexes, unique_keys, foreign_keys, clear_parts

CHECK constraints:
    check_constraints, check_conditions

Views:
    create_from_query, alter_view, replaced_view

Types, and row-level security:
    alter_type, row_security
"""
