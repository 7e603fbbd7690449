"""Tests of phiproxy.demo."""
