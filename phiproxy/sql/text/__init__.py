"""Texts of statements: their grammar, tokens and shapes; what a name means is not known here.

Reading a text:
    parse, token_spans, edited_tree, insert_rows, corrected_refusals

Without a parse:
    screen, shape, long_constants

What is refused, or read otherwise, whatever it is about:
    database_renames, visible_comments, rewritten_backslashes, long_names, newer_syntax

What others may be told of a text:
    audit_text, log_text, observed_text
"""
