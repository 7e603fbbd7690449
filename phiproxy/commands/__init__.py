"""The commands of ``phiproxy.cli``, one module each and imported only when it runs, so that ``--help`` is quick."""
