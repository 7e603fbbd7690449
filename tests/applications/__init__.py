"""Applications as their authors write them, with tests of their own; tests/integration/test_ehr.py runs those."""
