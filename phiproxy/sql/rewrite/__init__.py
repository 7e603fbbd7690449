"""Decisions of the analysis as edits of the text and of the tree, and the proof that both say the same."""
