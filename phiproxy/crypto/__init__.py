"""Floor 1: the stored bytes, with keys already in memory; knows no PostgreSQL."""
