"""Floor 6: metrics, health, reload."""
