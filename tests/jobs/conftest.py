"""A fresh database for each test of jobs."""

from tests.keys.conftest import clock, site

__all__ = ["clock", "site"]
