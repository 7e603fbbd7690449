"""Names to relations and columns, as the server resolves them."""
