"""Tests of phiproxy.index."""
