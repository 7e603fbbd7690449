"""Floor 2: what is protected, and what the database looks like; knows no bytes and no SQL text."""
