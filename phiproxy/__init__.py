"""phiproxy: health data encrypted between the application and PostgreSQL, or refused."""

__version__ = "0.2.0"
