"""Parameters, constants and formulas, and the types that PostgreSQL gives them.

What is given:
    operands, uses, formula

Of which type it is:
    accepted_types, type_resolution

What an index can answer:
    index_spelling, patterns, range_periods

Documents:
    path_steps, bound_paths, contained_scalars, field_containment
"""
