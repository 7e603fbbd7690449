"""An application's own migrations: DDL in the client's terms becomes DDL in physical form (spec/sql 4)."""
