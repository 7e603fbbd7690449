"""JSON documents: paths into them and what is at a path, as PostgreSQL has it (manual 9.16), and fields that are sealed in them."""
