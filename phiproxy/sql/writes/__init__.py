"""Rules for INSERT, UPDATE, DELETE and MERGE: what goes into protected columns.

The statements:
    insert_update_delete, merge, on_conflict

What goes into a column:
    assignment, column_defaults, document_places
"""
