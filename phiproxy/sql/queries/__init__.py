"""Rules for queries: FROM, target lists, grouping, set operations, views.

SELECT and its clauses:
    select, from_items, joins, ctes, unnest, grouping, order_by, set_operations

Views, and columns that clients do not know:
    views, computed_views, generated_columns

Rows as values, and whose they are:
    row_fields, mixed_rows
"""
