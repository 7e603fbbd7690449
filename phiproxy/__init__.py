"""phiproxy: health data encrypted between the application and PostgreSQL, or refused."""

__version__ = "0.1.0"
