"""A health record on SQLAlchemy 2."""
