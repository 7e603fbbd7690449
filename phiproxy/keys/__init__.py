"""Floor 6: where keys come from; may await, never meets net."""
