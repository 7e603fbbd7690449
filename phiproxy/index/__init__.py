"""Index expressions: phiproxy's own spelling, and the closed table of what it evaluates as PostgreSQL (crypto.md section 6)."""
