"""Plugins for the processes in which foreign suites run."""
