"""Floor 1: bytes to PostgreSQL vocabulary and back; knows no SQL and no keys.

Messages:
    framing, messages, fields, oids

COPY:
    copy_rows, copy_text, copy_csv, copy_binary

Values and character sets:
    arrays, bytea_and_text, encodings, encoding_tables, encoding_differences

Logging in:
    scram
"""
