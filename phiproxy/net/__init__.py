"""Floor 6: sockets; may await, never meets keys."""
