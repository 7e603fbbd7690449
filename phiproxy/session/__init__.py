"""Floor 5: one client's conversation, sans-I/O."""
