"""Split statements: of what the server cannot compute it answers a part, the source, and an engine computes the rest."""
