"""Rules for queries: FROM, target lists, grouping, set operations, views."""
