"""Texts of statements: their grammar, tokens and shapes; what a name means is not known here."""
