"""PostgreSQL's own errors for a refused statement, if PostgreSQL would reject it too.

Which error it is, and what is known for that:
    verdict, names_and_signatures

Statements and their clauses:
    whole_statements, writes, from_clause, sorted_outputs, ungrouped_columns, replaced_views

Expressions:
    expression_types, operators, calls
"""
