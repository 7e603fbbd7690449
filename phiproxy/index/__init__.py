"""Index expressions: phiproxy's own spelling, and the closed table of what it evaluates as PostgreSQL (spec/stored-format 6.2)."""
