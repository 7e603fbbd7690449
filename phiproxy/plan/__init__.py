"""Floor 4: from meaning to closures run per message and per row."""
