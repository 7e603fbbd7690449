"""Names to relations and columns, as the server resolves them.

Names:
    scope, outputs_without_as

Values and columns:
    protected_values, table_columns, functional_dependencies
"""
