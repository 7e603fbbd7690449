"""Index expressions: phiproxy's own spelling, and the closed table of what it evaluates as PostgreSQL does (crypto.md section 6)."""
