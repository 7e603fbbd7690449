"""Walks start where those of the commands do: a database with the clinic's tables, and a configuration for it."""

from tests.commands.conftest import clinic

__all__ = ["clinic"]
