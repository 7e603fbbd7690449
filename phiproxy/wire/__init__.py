"""Floor 1: bytes to PostgreSQL vocabulary and back; knows no SQL and no keys."""
