"""PostgreSQL's own programs on this machine: found, run unprivileged, started and stopped; knows nothing of the proxy."""
