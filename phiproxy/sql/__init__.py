"""Floor 3: what a statement means; the only package that imports pglast.

Where to look: ``text`` (before names mean anything), ``resolve`` (what they mean), ``queries``, ``writes``, ``statements`` (all
others, with DDL), ``expressions``, ``values`` (constants and parameters), ``rewrite`` (the text that the server gets),
``split`` (what an engine must compute), ``pg_errors`` (PostgreSQL's own errors).

The analysis of one statement:
    passes, rules, context, table_names, result

What else is read as SQL:
    policy_files, domain_conditions
"""
