"""Clients' own test suites and tools, once straight to PostgreSQL and once through the proxy: the same outcomes."""
