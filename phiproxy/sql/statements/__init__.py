"""Statements other than queries and writes: COPY, PREPARE, DDL and the other utility statements."""
