"""Send SIGHUP to the proxy when one of its files is another; beside it in the pod, with the process namespace shared."""

import hashlib
import os
import signal
import time
from pathlib import Path

FILES = [Path(name) for name in os.environ.get("PHIPROXY_FILES", "/etc/phiproxy:/mnt/phiproxy/tls").split(":")]
EVERY = float(os.environ.get("PHIPROXY_LOOK_EVERY", "10"))


def state() -> str:
    """Return a digest of policies and certificate; a file that is being replaced is looked at next time."""
    digest = hashlib.sha256()
    for path in sorted(path for directory in FILES for pattern in ("*.yaml", "tls.*") for path in directory.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def proxies() -> list[int]:
    """Return the process that serves: the one of ``phiproxy serve`` whose parent is none of these, so not a worker."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = entry.joinpath("cmdline").read_bytes().split(b"\0")
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it has ended
        if b"serve" in words and any(word.rpartition(b"/")[2] == b"phiproxy" for word in words):
            found[int(entry.name)] = parent
    return [pid for pid, parent in found.items() if parent not in found]


def main() -> None:
    """Look again and again."""
    before = state()
    while True:
        time.sleep(EVERY)
        try:
            now = state()
        except OSError:
            continue
        if now != before:
            before = now
            for pid in proxies():
                os.kill(pid, signal.SIGHUP)
                print(f"SIGHUP to {pid}", flush=True)  # noqa: T201 - the log of its container


if __name__ == "__main__":
    main()
