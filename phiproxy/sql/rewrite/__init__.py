"""Decisions of the analysis as edits of the text and of the tree, and the proof that both say the same.

Which changes there are, and in which order:
    order_of_rewrites, common_changes, references_and_markers

The new text and tree, and the proof that they are equal:
    draft, apply_edits

Comments, which the server is not to see:
    blank_comments
"""
