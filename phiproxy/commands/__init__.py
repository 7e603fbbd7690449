"""The commands of ``phiproxy.cli``, one module each and imported only when it runs, so that ``--help`` is quick.

Configuration, and a look at the database:
    init, check, check_engine, check_jobs, check_registry, ddl, explain, observe, report

Columns that are sealed, or in clear again; long work:
    encrypt, decrypt, recrypt, reindex, jobs, dry_run

Keys:
    keys, keys_rotate, pin_anchor, respond

The audit log:
    audit, audit_review, audit_subject

The proxy itself:
    serve

What commands share:
    command_context
"""
