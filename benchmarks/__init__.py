"""Measurements that anyone can repeat: ``python -m benchmarks`` (``make bench``), and ``python -m benchmarks.compare A B``."""
