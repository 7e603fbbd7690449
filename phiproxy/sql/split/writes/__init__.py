"""Split writes: the values that the server cannot compute are computed by the engine, and stored by a write of the client's own.

Which way is taken:
    ways_in_order, assigned_values, row_by_row, given_defaults, only_defaults
``ways_in_order`` splits a write, by the first way that is possible; ``assigned_values`` is what a write gives to which column.

The ways:
    computed_proposals, computed_values, computed_returning, updated_and_deleted_rows, returned_beside, conflicts,
    conflicts_of_query, inserted_rows, merged_rows, merged_returning, later_values, drawn_merge, values_in_with, with_write,
    read_beside, inserted_from_write, copied_rows, decided_branches, split_again

What they read of the text:
    clauses, merge_clauses, merge_source, inner_write, targets, row_keys, conflict_target

What may flow where:
    traces, unnested, clear_values, clear_leaves, scalar_values, given_in_clear, carried, parts_seen_together, drawn, drawn_order,
    drawn_in_with, derived_columns, constant_at_last
``traces`` finds the columns that an expression is computed of; ``unnested`` are given arrays. ``carried`` are values for
unprotected columns that an UPDATE takes from what the write does not have. ``drawn`` are calls of volatile functions, such as
nextval() and random().

What they are put together of:
    composed, composed_select, composition, described, described_merge, returned
``composed``: statements put together of pieces of the client's text; ``composition``: what a split write is made of, once these
are there; ``described``: what a client is told of its columns and parameters.
"""
