"""Split statements: of what the server cannot compute it answers a part, the source, and an engine computes the rest.

From a refused statement to its parts:
    any_kind, statement, division, source_and_rest, impossible
``any_kind`` is where it begins, for SELECTs and (``writes``) for all else.

Where things are in a statement:
    blocks, clauses, from_items, tables_and_columns, ctes, order_and_limit
``blocks`` are the queries in it that have a FROM, each with the conditions that filter it.

What the server answers: the sources:
    sources, computed_columns, values, shown_values, shown_table_rows, waiting
``waiting``: values decide whether tags answer a condition, and these do not, such as a range of too many days.

What the engine computes: the rest:
    rest_nodes, rest_text, pieces, remaining, grouped_by_key, rows_of_one_source
``remaining`` is what of the tree the sources do not answer, ``pieces`` the text in which a source stands for what it does.

Whether the engine's answer is PostgreSQL's:
    same_answers, branches, clock_constants, estimated_calls, default_expressions, equal_subqueries
``same_answers`` says which functions the engine answers as the server does.

Views over what is computed:
    view_definition, view_columns, view_constants

Statements around a query:
    around, prepared, explained
``around``: COPY (query) TO, DECLARE CURSOR and EXPLAIN; ``prepared``: PREPARE and EXECUTE; ``explained``: EXPLAIN ANALYZE.
"""
