"""Rules for INSERT, UPDATE, DELETE and MERGE: what goes into protected columns."""
