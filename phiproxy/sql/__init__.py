"""Floor 3: what a statement means; the only package that imports pglast."""
