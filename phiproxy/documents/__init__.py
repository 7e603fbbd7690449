"""JSON documents: paths into them and what is at a path, as PostgreSQL has it (manual 9.16), and fields that are sealed in them.

Paths, and what is at them:
    path_operators, field_paths, json_paths, walk
``path_operators``: ``->``, ``#>>`` and subscripts; ``field_paths``: paths of the policy; ``json_paths``: in a json's text.

Sealed fields:
    field_values, sealed_leaves, stored_leaves
"""
