"""Tests of phiproxy.postgres."""
