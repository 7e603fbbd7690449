"""Parameters, constants and formulas, and the types that PostgreSQL gives them."""
