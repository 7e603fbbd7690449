"""``python -m phiproxy``: the command line, where no script directory is on PATH."""

import sys

from phiproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
