"""Rules for expressions: what a protected value may be used for, and which comparison of tags answers it."""
