"""The audit log: who has seen, searched and stored what is protected, and the proof that nobody has changed that record.

What is written, and how it is signed:
    records, open_log_file, log_files, merkle_hash_tree, checkpoints

The process that writes:
    writer, syncs, committer, destinations, otlp_logs

What the proxy says to it:
    group_commit, lease, session_trail, audit_keys, sealed_subjects

What others say of signed heads, and whether that is genuine:
    anchors, verify_anchors
``anchors`` asks a time stamp authority or a KMS, ``verify_anchors`` checks what they said, offline.

What is read, and proven, offline:
    reading, first_bad, looked_at, snapshot, verify

What is made of it:
    search, fhir, atna, prune, activity, unusual, report, break_glass_review
"""
