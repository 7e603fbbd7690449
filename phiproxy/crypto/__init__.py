"""Floor 1: the stored bytes, with keys already in memory; knows no PostgreSQL.

Values:
    envelope, seal, seal_rows, gcm_in_pieces

Keys and tags:
    keyring, key_derivation, blind_tags
"""
