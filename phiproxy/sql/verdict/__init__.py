"""What PostgreSQL itself would say of a statement that is refused: its own error, where it would not take the statement either."""
