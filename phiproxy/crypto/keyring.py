"""Keys already in memory: answers, or raises KeyNeeded; no I/O, and time is handed in.

Filled by ``phiproxy.keys``; asked by ``seal``, ``blind`` and the plans. Everything here expires with the root key that it was
unwrapped or derived from (crypto.md section 8.5).
"""
# contract sketch: the crypto helper completes this file
