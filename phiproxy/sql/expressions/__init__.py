"""Rules for expressions: what a protected value may be used for, and which comparison of tags answers it.

An expression, and what it is made of:
    expression, terms, leaves, case_and_coalesce, term_values, column_references, values_columns, user_types
``case_and_coalesce``: CASE, COALESCE, NULLIF, COLLATE and scalar subqueries, whose value is that of a branch (``leaves``).

What compares:
    comparisons, equality, ranges, like, conditions, operators
``like``: LIKE, ILIKE, ^@ and regular expressions; ``ranges``: BETWEEN, or two bounds in AND;
``conditions``: a boolean column by itself.

Functions, and expressions with an index:
    function_calls, index_expressions, sql_text_functions

Constants and parameters, which the proxy evaluates:
    constant_arithmetic, constant_formulas

JSON documents:
    documents, document_paths, document_containment, parameter_paths, field_hints

What is refused, and where the error points:
    repeated_in_clear, error_positions
"""
