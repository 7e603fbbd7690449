"""The embedded clinic."""
