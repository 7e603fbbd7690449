"""Who may see what: the rules of a policy's ``access:``, the masks that they show, and what both come to for a set of roles.

Rules:
    rules, why_shown

Masks:
    shows, masks
"""
