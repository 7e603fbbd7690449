"""PostgreSQL's own errors for a refused statement, if PostgreSQL would reject it too."""
