"""Tests of phiproxy.engine."""
