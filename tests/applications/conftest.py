"""The applications' tests need a database of theirs: tests/integration/test_ehr.py runs them, a run of all tests passes them by."""

collect_ignore_glob = ["*_ehr*"]
