"""Values of PostgreSQL's types: between the wire's text and binary forms and the canonical form that is encrypted."""
